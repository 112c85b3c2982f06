"""Operators with compiled kernels for CPU and CUDA, and a fallback in plain PyTorch."""

from .build import build
from .decompositions import decomposition_table
from .deformable_attention import MultiScaleDeformableAttention
from .information import info
from .ms_deform_attn import ms_deform_attn
from .onnx_export import export_onnx

__all__ = [
    'MultiScaleDeformableAttention',
    'build',
    'decomposition_table',
    'export_onnx',
    'info',
    'ms_deform_attn',
]
