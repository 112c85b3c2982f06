"""Layers that more than one method uses."""

from .deformable_transformer import DeformableTransformerDecoder, DeformableTransformerEncoder
from .mask_feature import MaskFeatureBranch

__all__ = ['DeformableTransformerDecoder', 'DeformableTransformerEncoder', 'MaskFeatureBranch']
