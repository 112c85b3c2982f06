"""The kinds of results that :class:`.segmenter.Segmenter` gives."""

from .base import Instances, Result
from .images import ImageResult, InstanceResult, SemanticResult
from .videos import VideoResult

__all__ = [
    'ImageResult',
    'InstanceResult',
    'Instances',
    'Result',
    'SemanticResult',
    'VideoResult',
]
