"""Readers of data sets, checks of annotations and the generated sample."""

from .coco_instance import CocoInstanceDataset
from .errors import DataError

__all__ = ['CocoInstanceDataset', 'DataError']
