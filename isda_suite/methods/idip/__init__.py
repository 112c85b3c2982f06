"""IDIP: instance segmentation as diffusion of boxes (doi 10.3233/FAIA230485)."""

from .detector import IDIP
from .export import IDIPExport
from .head import IDIPHead
from .loss import IDIPLoss, MaskDiceLoss
from .mask_head import IDIPMaskHead
from .matching import IDIPAssigner
from .query_adapter import IDIPAdapter

__all__ = [
    'IDIP',
    'IDIPAdapter',
    'IDIPAssigner',
    'IDIPExport',
    'IDIPHead',
    'IDIPLoss',
    'IDIPMaskHead',
    'MaskDiceLoss',
]
