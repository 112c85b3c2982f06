"""Multi-scale deformable attention on the operator of ``isda_suite.ops``.

B images, Q queries, M heads, D channels of a head, L levels, P points, S = sum of H * W.
"""

import torch
from torch import Tensor


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Compute the attention.

    Args:
        value: (B, S, M, D).
        spatial_shapes: (L, 2) heights and widths.
        level_start_index: (L,) first position of each level.
        sampling_loc: (B, Q, M, L, P, 2) as (x, y) in [0, 1].
        attn_weight: (B, Q, M, L, P).
        im2col_step: Not used; our operator needs no such parts.

    Returns:
        (B, Q, M * D).

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    from isda_suite.ops import ms_deform_attn

    return ms_deform_attn(value, spatial_shapes, level_start_index, sampling_loc, attn_weight)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int = 64,
) -> None:
    """Write the gradients of the values, the sampling locations and the weights.

    Args:
        value: As in the forward pass.
        spatial_shapes: As in the forward pass.
        level_start_index: As in the forward pass.
        sampling_loc: As in the forward pass.
        attn_weight: As in the forward pass.
        grad_output: (B, Q, M * D).
        grad_value: Like ``value``; receives its gradient.
        grad_sampling_loc: Like ``sampling_loc``; receives its gradient.
        grad_attn_weight: Like ``attn_weight``; receives its gradient.
        im2col_step: Not used.
    """
    inputs = [tensor.detach().requires_grad_() for tensor in (value, sampling_loc, attn_weight)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            inputs[0], spatial_shapes, level_start_index, inputs[1], inputs[2]
        )
    grads = torch.autograd.grad(output, inputs, grad_output)
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, gradient in zip(targets, grads, strict=True):
        target.copy_(gradient)
