"""Write class maps, a few rows at a time: GeoTIFF with a georeference, or a plain PNG."""

import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.checkpoint.atomic import put_in_place, write_atomically
from isda_suite.layers.enlarged_rows import Size

Array = NDArray[Any]
#: Class of pixels without data.
IGNORED = 255
_BLOCK = 512


def write_class_raster(
    path: str | Path,
    blocks: Iterable[Array],
    size_hw: Size,
    palette: Sequence[Sequence[int]],
    georeference: dict[str, Any],
) -> None:
    """Write a class map as a GeoTIFF that appears under its name when it is complete.

    One band of bytes in compressed blocks of 512 x 512, with colours; 255 stands for no data. What
    was written is read again and compared before the file gets its name, for GDAL does not tell
    of every write that failed.

    Args:
        path: File to write, missing folders are made.
        blocks: Rows of classes from top to bottom, (n, W) uint8 each.
        size_hw: Height and width.
        palette: RGB colour of each class.
        georeference: From :attr:`.rasters.RasterPicture.georeference`.

    Raises:
        OSError: if the disk does not take it.
    """
    import rasterio

    final = Path(os.path.realpath(Path(path).expanduser()))
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f'{final.name}.tmp-{os.getpid()}')
    try:
        written = _write_blocks(temporary, _strips(blocks, size_hw), size_hw, palette, georeference)
        if written != _read_back(temporary, size_hw):
            raise OSError('it was not written whole')
        put_in_place(temporary, final)
    except (OSError, rasterio.errors.RasterioError) as error:
        free_mb = shutil.disk_usage(final.parent).free >> 20
        raise OSError(
            f'{final}: it cannot be written ({error.__cause__ or error}): {free_mb} MB are free '
            'there, nothing was kept'
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_class_image(path: str | Path, blocks: Iterable[Array], size_hw: Size) -> None:
    """Write a class map as a grey PNG whose values are the classes.

    Args:
        path: File to write, missing folders are made.
        blocks: Rows of classes from top to bottom, (n, W) uint8 each.
        size_hw: Height and width.

    """
    import cv2

    classes = np.empty(size_hw, np.uint8)
    start = 0
    for block in blocks:
        classes[start : start + len(block)] = block
        start += len(block)
    _, content = cv2.imencode('.png', classes)
    with write_atomically(path) as file:
        file.write(content)


def _strips(blocks: Iterable[Array], size_hw: Size) -> Iterator[Array]:
    """Join rows to the height of a file's blocks, so that each is compressed once."""
    held = np.empty((_BLOCK, size_hw[1]), np.uint8)
    filled = 0
    for block in blocks:
        while len(block):
            taken = block[: _BLOCK - filled]
            held[filled : filled + len(taken)] = taken
            filled += len(taken)
            block = block[len(taken) :]
            if filled == _BLOCK:
                yield held
                filled = 0
    if filled:
        yield held[:filled]


def _write_blocks(
    path: Path,
    strips: Iterable[Array],
    size_hw: Size,
    palette: Sequence[Sequence[int]],
    georeference: dict[str, Any],
) -> int:
    """Write and return a checksum."""
    import rasterio
    from rasterio.windows import Window

    layout = dict(
        tiled=True, blockxsize=_BLOCK, blockysize=_BLOCK, compress='deflate', BIGTIFF='IF_SAFER'
    )
    shape = dict(height=size_hw[0], width=size_hw[1], count=1, dtype='uint8', nodata=IGNORED)
    colours: dict[int, tuple[int, ...]] = {
        label: (*map(int, colour), 255) for label, colour in enumerate(palette)
    }
    checksum, top = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        dataset = rasterio.open(path, 'w', driver='GTiff', **shape, **layout, **georeference)
    with dataset:
        dataset.write_colormap(1, {**colours, IGNORED: (0, 0, 0, 0)})
        for strip in strips:
            dataset.write(strip, 1, window=Window(0, top, size_hw[1], len(strip)))
            checksum = zlib.crc32(strip.data, checksum)
            top += len(strip)
    return checksum


def _read_back(path: Path, size_hw: Size) -> int:
    import rasterio
    from rasterio.windows import Window

    checksum = 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        dataset = rasterio.open(path, driver='GTiff')
    with dataset:
        for top in range(0, size_hw[0], _BLOCK):
            window = Window(0, top, size_hw[1], min(_BLOCK, size_hw[0] - top))
            checksum = zlib.crc32(
                np.ascontiguousarray(dataset.read(1, window=window)).data, checksum
            )
    return checksum
