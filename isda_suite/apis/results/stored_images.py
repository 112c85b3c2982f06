"""Images that results belong to: read again when they are drawn, and not held before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.large_images.georeference import Georeference
from isda_suite.apis.large_images.pictures import reduced
from isda_suite.apis.large_images.rasters import BandChoice, RasterPicture, limited_cache
from isda_suite.layers.enlarged_rows import Size

Array = NDArray[Any]


class StoredImage(Protocol):
    """An image that can be read."""

    def read(self, size_hw: Size) -> Array:
        """Return it turned as the model saw it, (H, W, 3) uint8 BGR."""
        ...


@dataclass(frozen=True, eq=False)
class ImageInFile:
    """A picture file.

    Args:
        path: The file.
        owner: What keeps the file, if it is a temporary one.
    """

    path: Path
    owner: Any = None

    def read(self, size_hw: Size) -> Array:
        """See :class:`StoredImage`."""
        from isda_suite.datasets.image_file import read_as_predicted

        return read_as_predicted(str(self.path), size_hw)


@dataclass(frozen=True, eq=False)
class ImageInMemory:
    """An array.

    Args:
        pixels: (H, W, 3) uint8 BGR.
    """

    pixels: Array

    def read(self, size_hw: Size) -> Array:
        """See :class:`StoredImage`."""
        return self.pixels


@dataclass(frozen=True, eq=False)
class ImageInRaster:
    """A GeoTIFF or JPEG 2000 whose bands become a picture.

    Args:
        path: The file.
        bands: Which bands, and how they become bytes.
        owner: What keeps the file, if it is a temporary one.
    """

    path: Path
    bands: BandChoice
    owner: Any = None

    def read(self, size_hw: Size) -> Array:
        """See :class:`StoredImage`."""
        with self.opened() as raster:
            return np.ascontiguousarray(raster.read(0, 0, *raster.size_hw))

    @contextmanager
    def opened(self) -> Iterator[RasterPicture]:
        """Open it, to be read in windows.

        Raises:
            DataError: if the file is damaged, or its bands cannot be taken.
        """
        with limited_cache():
            raster = RasterPicture(self.path, self.bands)
            try:
                yield raster
            finally:
                raster.close()


def place_of(stored: StoredImage) -> Georeference | None:
    """Return the place of an image on a map, if it has one."""
    if not isinstance(stored, ImageInRaster):
        return None
    with stored.opened() as raster:
        return Georeference.of(raster)


def read_reduced(stored: StoredImage, size_hw: Size, factor: int) -> Array:
    """Read every ``factor``-th pixel of every ``factor``-th row, (h, w, 3) uint8 BGR."""
    if isinstance(stored, ImageInRaster):
        with stored.opened() as raster:
            return reduced(raster, factor)
    return stored.read(size_hw)[::factor, ::factor]
