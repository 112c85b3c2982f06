"""SOLQ: segmenting objects by learning queries (arXiv:2106.02351)."""

from .detector import SOLQ
from .export import SOLQExport
from .head import SOLQHead
from .mask_code import DCTMaskCoder
from .query_adapter import SOLQAdapter

__all__ = ['SOLQ', 'DCTMaskCoder', 'SOLQAdapter', 'SOLQExport', 'SOLQHead']
