"""ISDA: position-aware instance segmentation with deformable attention (arXiv:2202.12251)."""

from .detector import ISDA
from .export import ISDAExport
from .head import ISDAHead
from .query_adapter import ISDAAdapter

__all__ = ['ISDA', 'ISDAAdapter', 'ISDAExport', 'ISDAHead']
