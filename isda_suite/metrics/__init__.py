"""Metrics."""

from .coco import CocoMetric
from .iou import IoUMetric

__all__ = ['CocoMetric', 'IoUMetric']
