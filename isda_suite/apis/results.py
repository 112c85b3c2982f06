"""The kinds of results that :class:`.segmenter.Segmenter` gives."""

from .image_results import ImageResult, InstanceResult, SemanticResult
from .result import Instances, Result
from .video_result import VideoResult

__all__ = [
    'ImageResult',
    'InstanceResult',
    'Instances',
    'Result',
    'SemanticResult',
    'VideoResult',
]
