"""Adapters of mmdet's query-based heads; none of them imports a head, they go by class names."""

from .condinst import CondInstAdapter
from .mask2former import Mask2FormerAdapter
from .queryinst import QueryInstAdapter
from .solov2 import SOLOv2Adapter
from .sparseinst import SparseInstAdapter

__all__ = [
    'CondInstAdapter',
    'Mask2FormerAdapter',
    'QueryInstAdapter',
    'SOLOv2Adapter',
    'SparseInstAdapter',
]
