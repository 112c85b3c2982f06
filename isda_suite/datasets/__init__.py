"""Readers of data sets, checks of annotations and the generated sample."""

from .coco_instance import CocoInstanceDataset
from .deepglobe import DeepGlobeDataset
from .errors import DataError
from .inria_aerial import InriaAerialDataset
from .lvis import LVISInstanceDataset
from .samplers import VideoSampler
from .semantic import SemanticDataset
from .youtube_vis import YouTubeVISInstanceDataset
from .youtube_vis_clips import YouTubeVISClipDataset

__all__ = [
    'CocoInstanceDataset',
    'DataError',
    'DeepGlobeDataset',
    'InriaAerialDataset',
    'LVISInstanceDataset',
    'SemanticDataset',
    'VideoSampler',
    'YouTubeVISClipDataset',
    'YouTubeVISInstanceDataset',
]
