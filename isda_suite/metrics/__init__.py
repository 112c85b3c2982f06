"""Metrics."""

from .coco import CocoMetric

__all__ = ['CocoMetric']
