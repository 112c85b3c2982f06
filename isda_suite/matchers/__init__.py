"""What decides which query answers for which object; the assigners themselves are mmdet's."""

from .ignored_regions import ignored_region, lies_in_region
from .mask_iou import MaskIoUCost

__all__ = ['MaskIoUCost', 'ignored_region', 'lies_in_region']
