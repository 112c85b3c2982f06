"""Segment files: pictures and rasters of any size to class maps beside each other in a folder."""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.large_images.class_overlays import OverlayDrawer, class_palette
from isda_suite.apis.large_images.class_rasters import (
    IGNORED,
    write_class_image,
    write_class_raster,
)
from isda_suite.apis.large_images.coarse_logits import peak_on
from isda_suite.apis.large_images.pictures import ArrayPicture, Picture
from isda_suite.apis.large_images.rasters import (
    CACHE_MB,
    INSTALL,
    SUFFIXES,
    BandChoice,
    RasterPicture,
    limited_cache,
    rasterio_is_there,
)
from isda_suite.apis.large_images.tile_choice import TileChoice
from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings, TiledSegmenter
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import read_image
from isda_suite.datasets.image_header import read_header
from isda_suite.engine.errors import ConfigError
from isda_suite.layers.enlarged_rows import Size

from .inference import Image, find_images
from .model import load_model

Array = NDArray[Any]
__all__ = [
    'BandChoice',
    'SegmentSettings',
    'Segmented',
    'TiledSegmenter',
    'load_model',
    'segment_files',
]


@dataclass
class Segmented:
    """A file that was segmented.

    Attributes:
        source: The picture.
        out: The class map: GeoTIFF of a raster, else PNG.
        overlay: The picture with its classes drawn over it, if asked for.
        size_hw: Height and width.
        choice: One pass or tiles.
        num_tiles: How many passes, or windows of exact tiles.
        seconds: What it took.
        peak_mb: How far the memory in use rose; ``None`` where it cannot be known.
        notes: What the user should know.
    """

    source: Path
    out: Path
    overlay: Path | None = None
    size_hw: Size = (0, 0)
    choice: TileChoice = field(default_factory=lambda: TileChoice(None, 0, None))
    num_tiles: int = 1
    seconds: float = 0.0
    peak_mb: float | None = None
    notes: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Put it into a line, and one for each note."""
        tile, overlap = self.choice.tile, self.choice.overlap
        tiles = f'{self.num_tiles} tiles of {tile} pixels, overlap {overlap}'
        if self.choice.exact:
            tiles = f'{self.num_tiles} windows of {tile} pixels for the logits of one pass'
        memory = '' if self.peak_mb is None else f', {self.peak_mb:.0f} MB more than before'
        if self.choice.estimate is not None:
            memory += f' (estimated {self.choice.estimate / 2**20:.0f} MB)'
        line = (
            f'{self.source} ({self.size_hw[1]} x {self.size_hw[0]}): '
            f'{"one pass" if tile is None else tiles}, {self.seconds:.1f} s{memory}: {self.out}'
        )
        return '\n'.join([line, *(f'note: {self.source}: {note}' for note in self.notes)])


def segment_files(
    model: nn.Module,
    images: Image | Sequence[Image],
    out_dir: str | Path,
    settings: SegmentSettings | None = None,
    overlay: bool = False,
    progress: bool = True,
) -> Iterator[Segmented]:
    """Segment files one after the other and write their class maps.

    A raster (``.tif``, ``.jp2``, with rasterio) is read in windows and becomes a GeoTIFF with its
    georeference; pixels without data become 255. Any other picture is decoded by OpenCV and
    becomes a grey PNG whose values are the classes.

    Args:
        model: A segmentor of mmseg from :func:`.model.load_model`.
        images: Files, folders or patterns, see :func:`.inference.find_images`.
        out_dir: Folder for the results; equal names get numbers.
        settings: How pictures are segmented.
        overlay: Also draw the classes over the pictures, large ones reduced.
        progress: Show a bar of the tiles of each picture.

    Yields:
        What was done with each file.

    Raises:
        DataError: if a file is missing, damaged, or cannot be taken as it is.
        ConfigError: if the model cannot be used, or the results would replace the pictures.
        OSError: if the disk does not take a result.
    """
    segmenter = TiledSegmenter(model, settings)
    for source, name in name_results(images, out_dir):
        task = Segmented(source, Path(out_dir).expanduser() / name)
        start = time.perf_counter()
        action = functools.partial(_segment_file, segmenter, model, task, overlay, progress)
        _, peak = peak_on(segmenter.network.device, action)
        task.seconds = time.perf_counter() - start
        task.peak_mb = None if peak is None else peak / 2**20
        yield task


def name_results(images: Image | Sequence[Image], out_dir: str | Path) -> list[tuple[Path, str]]:
    """Pair files with the names of their results.

    Raises:
        DataError: if a path does not exist, or something is no path.
        ConfigError: if the results would replace the pictures.
    """
    folder = Path(out_dir).expanduser().resolve()
    pairs: list[tuple[Path, str]] = []
    taken: set[str] = set()
    for index, source in enumerate(find_images(images)):
        if not isinstance(source, Path):
            raise DataError('only files get files as results: TiledSegmenter.segment takes arrays')
        if source.parent.resolve() == folder:
            raise ConfigError(f'{out_dir} holds {source}: the results may replace the pictures')
        name = source.stem if source.stem not in taken else f'{index}_{source.stem}'
        taken.add(name)
        pairs.append((source, name + ('.tif' if _is_raster(source) else '.png')))
    return pairs


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and rasterio_is_there()


def _segment_file(
    segmenter: TiledSegmenter, model: nn.Module, task: Segmented, overlay: bool, progress: bool
) -> None:
    from tqdm import tqdm

    num_classes = segmenter.network.num_classes
    with limited_cache(), _opened(task, segmenter.settings.bands) as picture:
        task.size_hw = picture.size_hw
        task.choice = segmenter.choose(picture, _held_bytes(picture))
        task.num_tiles = segmenter.num_tiles(picture, task.choice)
        drawer = OverlayDrawer(picture.size_hw)
        bar = tqdm(total=task.num_tiles, desc=task.source.name, unit='tile', disable=not progress)
        with bar:
            blocks = segmenter.blocks(picture, task.choice, bar.update)
            palette = class_palette(model, num_classes)
            _write(task.out, picture, drawer.watch(blocks) if overlay else blocks, palette)
        if overlay:
            task.overlay = task.out.with_name(f'{task.out.stem}_overlay.jpg')
            drawer.draw(task.overlay, picture, model, num_classes)


def class_map_of(segmenter: TiledSegmenter, picture: Picture) -> Array:
    """Return the class of every pixel of a picture, (H, W) uint8; 255 where it has no data."""
    blocks = segmenter.blocks(picture, segmenter.choose(picture, _held_bytes(picture)))
    if isinstance(picture, RasterPicture):
        blocks = _without_gaps(blocks, picture)
    return np.concatenate(list(blocks))


def _held_bytes(picture: Picture) -> int:
    """Return what reading and writing take: a cache of blocks, or a class map and its PNG."""
    if isinstance(picture, RasterPicture):
        return CACHE_MB << 20
    return 2 * picture.size_hw[0] * picture.size_hw[1]


def _write(
    path: Path, picture: Picture, blocks: Iterator[Array], palette: Sequence[Sequence[int]]
) -> None:
    if isinstance(picture, RasterPicture):
        known = _without_gaps(blocks, picture)
        write_class_raster(path, known, picture.size_hw, palette, picture.georeference)
    else:
        write_class_image(path, blocks, picture.size_hw)


@contextmanager
def _opened(task: Segmented, choice: BandChoice) -> Iterator[Picture]:
    path = task.source
    if _is_raster(path) or path.suffix.lower() == '.jp2':
        raster = RasterPicture(path, choice)
        if not raster.is_placed:
            task.notes.append('it has no georeference, neither has its class map')
        try:
            yield raster
        finally:
            raster.close()
        return
    if choice != BandChoice():
        raise DataError(f'{path}: bands and stretch are for rasters ({", ".join(SUFFIXES)})')
    yield ArrayPicture(_decoded(task))


def _decoded(task: Segmented) -> Array:
    """Decode a picture that is no raster, or one that is while rasterio is missing."""
    path = str(task.source)
    is_raster = path.lower().endswith(SUFFIXES)
    try:
        image = read_image(path)
    except DataError as error:
        if is_raster:
            raise DataError(f'{error} (reading it as a raster: {INSTALL})') from error
        raise
    header = read_header(path)
    task.notes += header.losses() if header is not None else []
    if is_raster:
        task.notes.append(f'read without its georeference, if it has one; to keep it: {INSTALL}')
    return image


def _without_gaps(blocks: Iterator[Array], raster: RasterPicture) -> Iterator[Array]:
    """Mark the pixels without data."""
    top = 0
    for block in blocks:
        if raster.has_gaps:
            block = np.where(raster.empty(top, 0, *block.shape), np.uint8(IGNORED), block)
        top += len(block)
        yield block
