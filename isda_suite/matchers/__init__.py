"""Matching costs that mmdet lacks; the assigners themselves are mmdet's."""

from .mask_iou import MaskIoUCost

__all__ = ['MaskIoUCost']
