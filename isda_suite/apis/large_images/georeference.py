"""Where the pixels of a raster lie on a map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rasters import RasterPicture

Array = NDArray[Any]
_LONGITUDE_FIRST = 'urn:ogc:def:crs:OGC:1.3:CRS84'


@dataclass(frozen=True)
class Georeference:
    """The place of a picture.

    Args:
        crs_name: Name of the reference system as GeoJSON has it, such as
            ``urn:ogc:def:crs:EPSG::32633``; the WKT of one without a number.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f.
        profile: What rasterio writes into a file of the same place.
    """

    crs_name: str
    transform: tuple[float, ...]
    profile: dict[str, Any]

    @classmethod
    def of(cls, raster: RasterPicture) -> 'Georeference | None':
        """Read the place of a raster; ``None`` if it has none.

        Ground control points count as the affine transform that fits them best.
        """
        if not raster.is_placed:
            return None
        profile = raster.georeference
        transform = profile.get('transform')
        if transform is None:
            from rasterio.transform import from_gcps

            transform = from_gcps(profile['gcps'])
        return cls(_name_of(profile['crs']), tuple(transform)[:6], profile)

    def to_map(self, points_xy: Array) -> Array:
        """Bring pixel coordinates, (N, 2) as (column, row) of corners of pixels, to the map."""
        a, b, c, d, e, f = self.transform
        x, y = points_xy[:, 0], points_xy[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _name_of(crs: Any) -> str:
    number = crs.to_epsg()
    if number is None:
        return str(crs.to_wkt())
    # GeoJSON has longitude first, EPSG:4326 latitude.
    return _LONGITUDE_FIRST if number == 4326 else f'urn:ogc:def:crs:EPSG::{number}'
