"""The operator ``isda_suite::ms_deform_attn``: from sampling locations and attention weights."""

from collections.abc import Sequence

from torch import Tensor

from . import checks
from .attention_operator import AttentionOperator
from .reference import reference_backward, reference_forward

OPERATOR = AttentionOperator(
    'ms_deform_attn',
    ('sampling_locations', 'attention_weights'),
    checks.check_operands,
    reference_forward,
    reference_backward,
)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    level_start_index: Tensor | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    r"""Add up bilinear samples of several maps, weighted, for every query and head.

    .. math:: o_{bqm} = \sum_{lp} a_{bqmlp} \, v_{bml}(u_{bqmlp})

    Axes: B images, S = sum of H·W over levels, M heads, C channels of a head, Q queries, L levels,
    P points.

    Args:
        value: (B, S, M, C), float32, float64, float16 or bfloat16.
        spatial_shapes: (L, 2) integers as (h, w), on the device of ``value`` or on the CPU; or a
            sequence of (h, w) pairs, which needs no table on the device and no synchronisation.
        level_start_index: (L,) rows of ``value`` where the levels start; ``None`` if they follow
            one another.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y), 0..1 across the level; any real number
            is legal, points outside give nothing.
        attention_weights: (B, Q, M, L, P), used as given. Like the locations in the dtype of
            ``value``, or float32 beside a 16-bit ``value``.

    Returns:
        (B, Q, M*C) in the dtype of ``value``.

    Raises:
        ValueError: if a shape, a device or the table of levels does not fit.
        TypeError: if a dtype does not fit.
        NotImplementedError: if forward-mode derivatives are asked for.

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    return OPERATOR(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)


OPERATOR.register()
