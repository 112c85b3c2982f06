"""Deformable convolution for targets without our library: ATen operations, or ONNX's node."""

from typing import Any

import torch
from torch import Tensor

from .deform_conv2d_reference import Geometry, reference_backward, reference_forward

ONNX_OPSET = 19
"""The first with ``DeformConv``."""


def forward_as_aten(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *geometry: Any,
) -> Tensor:
    """Compute ``deform_conv2d`` with gathers and one product of matrices."""
    return reference_forward(input, offset, mask, weight, bias, Geometry(*geometry))


def backward_as_aten(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    """Compute ``deform_conv2d_backward``, whose last argument says which gradients are asked for.

    Returns:
        Five gradients; those not asked for, and that of a mask that is not there, are empty.
    """
    *geometry, asked = rest
    gradients = reference_backward(grad_output, input, offset, mask, weight, Geometry(*geometry))
    there = [want and (i != 2 or mask is not None) for i, want in enumerate(asked)]
    zipped = zip(gradients, there, strict=True)
    return tuple(g if want else input.new_empty(0) for g, want in zipped)


def as_onnx_node(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *numbers: Any,
) -> Tensor:
    """Write one node ``DeformConv``, with a mask for version 2.

    ONNX has one dtype for all operands. A 16-bit ``input`` beside float32 offsets is widened
    rather than the offsets rounded.
    """
    geometry = Geometry(*numbers)
    dtype = torch.promote_types(input.dtype, offset.dtype)
    operands = (input, weight, offset, bias, mask)
    output: Tensor = torch.onnx.ops.symbolic(
        'DeformConv',
        [None if operand is None else operand.to(dtype) for operand in operands],
        {
            'kernel_shape': list(weight.shape[2:]),
            'strides': list(geometry.stride),
            'pads': [*geometry.padding, *geometry.padding],
            'dilations': list(geometry.dilation),
            'group': geometry.groups,
            'offset_group': geometry.deform_groups,
        },
        dtype=dtype,
        shape=(input.shape[0], weight.shape[0], *geometry.output_size(input, weight)),
        version=ONNX_OPSET,
    )
    return output.to(input.dtype)
