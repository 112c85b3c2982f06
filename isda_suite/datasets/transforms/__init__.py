"""Transforms of samples."""

from .drop_empty_masks import DropEmptyMasks
from .load_image import LoadImage
from .load_labels import LoadSegLabels
from .load_polygons import LoadPolygons
from .pack_labels import PackSegInputs

__all__ = ['DropEmptyMasks', 'LoadImage', 'LoadPolygons', 'LoadSegLabels', 'PackSegInputs']
