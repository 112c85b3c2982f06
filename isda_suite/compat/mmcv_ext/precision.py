"""Floating types for which the operators below have kernels."""

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """Give the tensor in a type that torchvision's kernels take.

    They exist for float16 (where a GPU computes in it), float32 and float64, not for bfloat16;
    float16 on the CPU would work but adds up in half precision.

    Args:
        tensor: Any floating tensor.

    Returns:
        The same tensor, or a float32 copy.
    """
    narrow = tensor.dtype == torch.bfloat16
    return tensor.float() if narrow or _half_on_cpu(tensor) else tensor


def _half_on_cpu(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float16 and tensor.device.type == 'cpu'
