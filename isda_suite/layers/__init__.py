"""Layers that more than one method uses."""

from .deformable_transformer import DeformableTransformerDecoder, DeformableTransformerEncoder
from .mask_feature import MaskFeatureBranch
from .seg_data_preprocessor import SegDataPreProcessor

__all__ = [
    'DeformableTransformerDecoder',
    'DeformableTransformerEncoder',
    'MaskFeatureBranch',
    'SegDataPreProcessor',
]
