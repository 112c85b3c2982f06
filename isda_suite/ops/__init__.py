"""Operators with compiled kernels for CPU and CUDA, and a fallback in plain PyTorch."""

from .build import build
from .deformable_attention import MultiScaleDeformableAttention
from .information import info
from .ms_deform_attn import ms_deform_attn

__all__ = ['MultiScaleDeformableAttention', 'build', 'info', 'ms_deform_attn']
