"""Transforms of samples."""

from .clip_geometry import RandomCropKeepingAll, ResizeShortSide
from .drop_empty_masks import DropEmptyMasks
from .load_clip_annotations import LoadClipAnnotations
from .load_image import LoadImage
from .load_labels import LoadSegLabels
from .load_polygons import LoadPolygons
from .pack_clip import PackClipInputs
from .pack_labels import PackSegInputs
from .photometric import PhotoMetricDistortion
from .sample_clip import SampleClip

__all__ = [
    'DropEmptyMasks',
    'LoadClipAnnotations',
    'LoadImage',
    'LoadPolygons',
    'LoadSegLabels',
    'PackClipInputs',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomCropKeepingAll',
    'ResizeShortSide',
    'SampleClip',
]
