"""Read rasters of any size in windows.

Uses the package rasterio, which is optional: ``pip install isda_suite[raster]``.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.datasets.errors import DataError
from isda_suite.layers.enlarged_rows import Size

Array = NDArray[Any]
SUFFIXES = ('.tif', '.tiff', '.jp2')
#: Starts of files, and GDAL's names of the formats. Others stay closed: a VRT, for one, may name
#: other files and addresses.
_DRIVERS = {
    b'II*\0': 'GTiff',
    b'MM\0*': 'GTiff',
    b'II+\0': 'GTiff',
    b'MM\0+': 'GTiff',
    b'\0\0\0\x0c': 'JP2OpenJPEG',
    b'\xff\x4f\xff\x51': 'JP2OpenJPEG',
}
INSTALL = 'pip install isda_suite[raster]'
#: Of GDAL's cache, in MB; its default is 5 % of the machine.
CACHE_MB = 256
_SAMPLE_SIDE = 1024


@dataclass(frozen=True)
class BandChoice:
    """Which bands of a raster are red, green and blue, and how they become bytes.

    Args:
        bands: Three numbers from 1 on; ``None`` takes the only band, the first three of three, or
            of four if the fourth is transparency.
        stretch: Two percentiles that become 0 and 255, found for each band on a reduced copy;
            needed where a band has more than 8 bits. ``None`` takes bytes as they are.
    """

    bands: tuple[int, int, int] | None = None
    stretch: tuple[float, float] | None = None


def rasterio_is_there() -> bool:
    """Tell whether rasters can be read and written."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


class RasterPicture:
    """A raster, see :class:`.pictures.Picture`; open until :meth:`close`.

    Args:
        path: GeoTIFF, also cloud-optimised or BigTIFF, or JPEG 2000.
        choice: Bands and their stretch.

    Raises:
        DataError: if rasterio is missing, or the file is missing, damaged, of another format, or
            has bands of which no three can be taken without being told.
    """

    def __init__(self, path: str | Path, choice: BandChoice | None = None) -> None:
        self.path = Path(path)
        choice = choice or BandChoice()
        if not rasterio_is_there():
            raise DataError(f'{path}: reading it as a raster needs rasterio: {INSTALL}')
        self._dataset = _open(self.path)
        self.size_hw: Size = (self._dataset.height, self._dataset.width)
        try:
            self._bands = self._choose_bands(choice)
            self._limits = self._choose_limits(choice)
        except BaseException:
            self.close()
            raise

    def read(self, top: int, left: int, height: int, width: int) -> Array:
        """See :class:`.pictures.Picture`.

        Raises:
            DataError: if this part of the file is damaged or cut off.
        """
        blue_first = self._bands[::-1]
        planes = self._read(blue_first, window=_window(top, left, height, width))
        if self._limits is not None:
            low, high = self._limits[:, ::-1, None, None]
            planes = np.nan_to_num(planes.astype(np.float32), nan=0.0)
            planes = ((planes - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    @property
    def has_gaps(self) -> bool:
        """Whether pixels may be marked as holding no data."""
        flags = self._dataset.mask_flag_enums
        return any('all_valid' not in (one.name for one in band) for band in flags)

    def empty(self, top: int, left: int, height: int, width: int) -> Array:
        """Return which pixels of a window hold no data, (height, width) bool."""
        with _faults_of(self.path):
            mask = self._dataset.dataset_mask(window=_window(top, left, height, width))
        return np.asarray(mask == 0)

    @property
    def georeference(self) -> dict[str, Any]:
        """Reference system and place of the pixels (and ground control points), for writing."""
        points, points_crs = self._dataset.gcps
        if points and self._dataset.crs is None:
            return dict(gcps=points, crs=points_crs)
        return dict(crs=self._dataset.crs, transform=self._dataset.transform)

    @property
    def is_placed(self) -> bool:
        """Whether the file says where on earth it is."""
        return _is_placed(self._dataset)

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def _choose_bands(self, choice: BandChoice) -> list[int]:
        count = self._dataset.count
        kinds = [one.name for one in self._dataset.colorinterp]
        if choice.bands is not None:
            wrong = [band for band in choice.bands if not 1 <= band <= count]
            if wrong:
                raise DataError(f'{self.path}: there is no band {wrong[0]}, it has 1 to {count}')
            return list(choice.bands)
        if kinds[0] == 'palette':
            raise DataError(
                f'{self.path}: its values are numbers of a colour table, no brightness: expand it '
                '(gdal_translate -expand rgb IN OUT)'
            )
        colours = count - (kinds[-1] == 'alpha')
        if colours not in (1, 3):
            raise DataError(
                f'{self.path}: it has {count} bands ({", ".join(kinds)}): say which are red, green '
                'and blue with bands, for example --bands 3 2 1'
            )
        return [1, 2, 3] if colours == 3 else [1, 1, 1]

    def _choose_limits(self, choice: BandChoice) -> Array | None:
        """Return lowest and highest value of each band, (2, 3), that become 0 and 255."""
        kinds = {self._dataset.dtypes[band - 1] for band in self._bands}
        if choice.stretch is None:
            if kinds != {'uint8'}:
                raise DataError(
                    f'{self.path}: its values are {", ".join(sorted(kinds))}, the model takes '
                    'bytes: say which percentiles become 0 and 255 with stretch, for example '
                    '--stretch 2 98'
                )
            return None
        factor = max(1, -(-max(self.size_hw) // _SAMPLE_SIDE))
        shape = tuple(-(-side // factor) for side in self.size_hw)
        sample = self._read(self._bands, out_shape=(3, *shape), masked=True).astype(np.float64)
        limits = []
        for band, values in zip(self._bands, sample, strict=True):
            known = values.compressed()
            known = known[np.isfinite(known)]
            low, high = np.percentile(known, choice.stretch) if known.size else (0.0, 0.0)
            if not low < high:
                raise DataError(f'{self.path}: band {band} has one value only, nothing to stretch')
            limits.append((low, high))
        return np.array(limits).T

    def _read(self, bands: Sequence[int], **options: Any) -> Any:
        with _faults_of(self.path):
            return self._dataset.read(list(bands), **options)


def is_georeferenced(path: str | Path) -> bool:
    """Tell whether a raster says where on earth it is; one that cannot be opened does not."""
    try:
        with _open(Path(path)) as dataset:
            return _is_placed(dataset)
    except DataError:
        return False


@contextmanager
def limited_cache() -> Iterator[None]:
    """Keep GDAL's cache of blocks small while rasters are open."""
    if not rasterio_is_there():
        yield
        return
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        yield


def _open(path: Path) -> Any:
    import rasterio

    if not path.is_file():
        raise DataError(f'no raster {path} (working directory {Path.cwd()})')
    with path.open('rb') as file:
        start = file.read(4)
    if start not in _DRIVERS:
        raise DataError(
            f'{path}: it begins with {start!r}, neither a TIFF nor JPEG 2000: empty, a '
            'failed download, or of another format (gdal_translate IN OUT.tif)'
        )
    with _faults_of(path), warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, driver=_DRIVERS[start])


def _is_placed(dataset: Any) -> bool:
    return dataset.crs is not None or bool(dataset.gcps[0])


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Turn what GDAL says of a file into an error with its name."""
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, ValueError, MemoryError) as error:
        raise DataError(
            f'{path}: it cannot be read, damaged or cut off? {error.__cause__ or error}'
        ) from error


def _window(top: int, left: int, height: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(left, top, width, height)
