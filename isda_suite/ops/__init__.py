"""Operators with compiled kernels, and a fallback in plain PyTorch."""

from importlib.util import find_spec

from .build import build
from .decompositions import decomposition_table
from .deform_conv2d import deform_conv2d
from .information import info
from .mmcv_patch import patch_mmcv
from .ms_deform_attn import ms_deform_attn
from .ms_deform_attn_fused import ms_deform_attn_fused
from .onnx_export import export_onnx

# The modules derive from mmengine's; the operators need nothing but torch.
if find_spec('mmengine') is not None:
    from .deformable_attention import MultiScaleDeformableAttention
    from .deformable_convolution import (
        DeformConv2d,
        DeformConv2dPack,
        ModulatedDeformConv2d,
        ModulatedDeformConv2dPack,
    )

__all__ = [
    'DeformConv2d',
    'DeformConv2dPack',
    'ModulatedDeformConv2d',
    'ModulatedDeformConv2dPack',
    'MultiScaleDeformableAttention',
    'build',
    'decomposition_table',
    'deform_conv2d',
    'export_onnx',
    'info',
    'ms_deform_attn',
    'ms_deform_attn_fused',
    'patch_mmcv',
]
