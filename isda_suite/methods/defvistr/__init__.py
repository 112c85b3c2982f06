"""DefVisTR: video instance segmentation with spatio-temporal deformable attention.

Source: arXiv:2203.06318; with VisTR (arXiv:2011.14503) as a variant.
"""

from .detector import DefVisTR
from .export import DefVisTRExport
from .head import DefVisTRHead
from .mask_branch import MaskBranch
from .matching import SequenceHungarianAssigner

__all__ = [
    'DefVisTR',
    'DefVisTRExport',
    'DefVisTRHead',
    'MaskBranch',
    'SequenceHungarianAssigner',
]
