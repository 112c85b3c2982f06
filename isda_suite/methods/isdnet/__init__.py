"""ISDNet: a shallow network at full size beside a deep one at a quarter of it (CVPR 2022)."""

from .export import ISDNetExport
from .head import RefineHead
from .loss import ReconstructionLoss, StructureDistillationLoss
from .segmentor import ISDNet
from .shallow_branch import ShallowBranch
from .test_time_augmentation import ISDNetTTA

__all__ = [
    'ISDNet',
    'ISDNetExport',
    'ISDNetTTA',
    'ReconstructionLoss',
    'RefineHead',
    'ShallowBranch',
    'StructureDistillationLoss',
]
