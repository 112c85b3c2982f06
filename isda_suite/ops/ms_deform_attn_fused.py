"""The operator ``isda_suite::ms_deform_attn_fused``: from what the linear layers give."""

from collections.abc import Sequence

from torch import Tensor

from . import checks
from .attention_operator import AttentionOperator
from .ms_deform_attn_fused_reference import fused_backward, fused_forward

OPERATOR = AttentionOperator(
    'ms_deform_attn_fused',
    ('reference_points', 'sampling_offsets', 'attention_logits'),
    checks.check_fused_operands,
    fused_forward,
    fused_backward,
    kept=frozenset({'sampling_offsets', 'attention_logits'}),
)


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    level_start_index: Tensor | None,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    r"""Attend around reference points, with the softmax and the way to pixels inside.

    The same as :func:`ms_deform_attn` at

    .. math::
        a = \operatorname{softmax}_{lp}(z), \qquad
        u = r + \frac{\Delta}{(W_l, H_l)} \quad\text{or}\quad u = r_{xy} + \frac{\Delta}{2P} r_{wh}

    without arrays of locations and weights, which are larger than all other operands together.

    Axes: B images, S = sum of H·W over levels, M heads, C channels of a head, Q queries, L levels,
    P points.

    Args:
        value: (B, S, M, C), float32, float64, float16 or bfloat16.
        spatial_shapes: (L, 2) integers as (h, w), on the device of ``value`` or on the CPU; or a
            sequence of (h, w) pairs, which needs no table on the device and no synchronisation.
        level_start_index: (L,) rows of ``value`` where the levels start; ``None`` if they follow
            one another.
        reference_points: (B, Q, L, 2) as (x, y) or (B, Q, L, 4) as (x, y, width, height), 0..1
            across the level; the axis of the levels may be 1. This and the next two in the dtype
            of ``value``, or float32 beside a 16-bit ``value``, each on its own.
        sampling_offsets: (B, Q, M, L, P, 2) as (x, y): in pixels of the level, or, beside a
            width and a height, in units of 1 / (2*P) of those. Any real number is legal, points
            outside give nothing.
        attention_logits: (B, Q, M, L, P); the softmax goes over L and P together, in float32
            (float64 for float64). If all are -infinity the weights are NaN, as in torch.

    Returns:
        (B, Q, M*C) in the dtype of ``value``.

    Raises:
        ValueError: if a shape, a device or the table of levels does not fit.
        TypeError: if a dtype does not fit.
        NotImplementedError: if forward-mode derivatives are asked for.

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    operands = (reference_points, sampling_offsets, attention_logits)
    return OPERATOR(value, spatial_shapes, level_start_index, *operands)


OPERATOR.register()
