"""Transforms of samples."""

from .drop_empty_masks import DropEmptyMasks
from .load_image import LoadImage

__all__ = ['DropEmptyMasks', 'LoadImage']
