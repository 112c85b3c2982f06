"""IUQ: training query-based segmenters with instance-unique queries (arXiv:2210.00911)."""

from . import adapters, forms
from .detector import IUQDetector
from .equivariance import Equivariance
from .geometry import AlignedCrop, FlipX, FlipY, OneOf, Rot90
from .memory import PixelMemory
from .pixel_uniqueness import PixelUniqueness
from .postprocess import AdelaiDetCondInstBboxHead
from .released_condinst import PartnerHalf
from .released_mask2former import Retrieval
from .released_solov2 import PastBatches, SOLOv2Equivariance
from .uniqueness import UniquenessLoss

__all__ = [
    'AdelaiDetCondInstBboxHead',
    'AlignedCrop',
    'Equivariance',
    'FlipX',
    'FlipY',
    'IUQDetector',
    'OneOf',
    'PartnerHalf',
    'PastBatches',
    'PixelMemory',
    'PixelUniqueness',
    'Retrieval',
    'Rot90',
    'SOLOv2Equivariance',
    'UniquenessLoss',
    'adapters',
    'forms',
]
