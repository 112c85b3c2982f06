"""Small rasters, written with rasterio."""

import numpy as np
import rasterio
from rasterio.transform import from_origin

PLACE = dict(crs='EPSG:32633', transform=from_origin(500_000, 5_000_000, 0.5, 0.5))


def write_raster(path, pixels, **options):
    """Write (bands, H, W) pixels as a GeoTIFF, placed unless told otherwise."""
    options = {'driver': 'GTiff', **PLACE, **options}
    kinds = options.pop('colorinterp', None)
    count, height, width = pixels.shape
    shape = dict(count=count, height=height, width=width, dtype=pixels.dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, 'w', **shape, **options) as dataset:
        if kinds:
            dataset.colorinterp = kinds
        dataset.write(pixels)
    return path


def noise(bands=3, height=90, width=120, dtype='uint8', high=256):
    return np.random.default_rng(0).integers(0, high, (bands, height, width)).astype(dtype)
