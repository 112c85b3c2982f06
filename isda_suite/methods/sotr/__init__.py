"""SOTR: segmenting objects with transformers (arXiv:2108.06747)."""

from .detector import SOTR
from .head import SOTRHead
from .query_adapter import SOTRAdapter
from .transformer import TwinTransformer

__all__ = ['SOTR', 'SOTRAdapter', 'SOTRHead', 'TwinTransformer']
