"""Our operators as plain ATen operations, for targets that do not have our library.

``torch.export`` keeps an operator as one node; ``run_decompositions(decomposition_table())`` turns
it into gathers and arithmetic. Tables of levels stay tensors and are never read, so their content
is not checked, and the graph does not grow with the number of levels. With a list of sizes every
level has its own nodes, which need less memory at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .attention_operator import AttentionOperator, asked_for
from .checks import levels_from_list
from .deform_conv2d_export import backward_as_aten, forward_as_aten
from .ms_deform_attn import OPERATOR as MS_DEFORM_ATTN
from .ms_deform_attn_fused import OPERATOR as MS_DEFORM_ATTN_FUSED
from .reference import Level, PointLevels


def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Return what turns our operators into ATen operations.

    Returns:
        Operator overload -> function, for ``ExportedProgram.run_decompositions`` or
        ``torch.fx.experimental.proxy_tensor.make_fx``. Merge it into another table to keep that
        one's entries too.
    """
    table: dict[Any, Callable[..., Any]] = {
        torch.ops.isda_suite.deform_conv2d.default: forward_as_aten,
        torch.ops.isda_suite.deform_conv2d_backward.default: backward_as_aten,
    }
    for operator in (MS_DEFORM_ATTN, MS_DEFORM_ATTN_FUSED):
        forward = getattr(torch.ops.isda_suite, operator.name)
        backward = getattr(torch.ops.isda_suite, f'{operator.name}_backward')
        table[forward.default] = partial(_forward_with_tables, operator)
        table[forward.list] = partial(_forward_with_list, operator)
        table[backward.default] = partial(_backward_with_tables, operator)
        table[backward.list] = partial(_backward_with_list, operator)
    return table


def _point_levels(
    value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor, points: int
) -> list[Level | PointLevels]:
    """Levels of all points side by side; none if ``value`` has no row that could be gathered."""
    if value.shape[1] == 0:
        return []
    heights, widths = spatial_shapes.to(value.device).unbind(1)
    starts = level_start_index.to(value.device)
    per_point = (t.unsqueeze(1).expand(-1, points).flatten() for t in (heights, widths, starts))
    return [PointLevels(*per_point)]


def _forward_with_tables(
    operator: AttentionOperator,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    *operands: Tensor,
) -> Tensor:
    points = operands[-1].shape[4]
    levels = _point_levels(value, spatial_shapes, level_start_index, points)
    return operator.forward(value, levels, *operands)


def _forward_with_list(
    operator: AttentionOperator, value: Tensor, spatial_shapes: list[int], *operands: Tensor
) -> Tensor:
    return operator.forward(value, levels_from_list(value, spatial_shapes), *operands)


def _backward_with_tables(
    operator: AttentionOperator,
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    *operands, mask = rest
    points = operands[-1].shape[4]
    levels = _point_levels(value, spatial_shapes, level_start_index, points)
    return asked_for(operator.backward(grad_output, value, levels, *operands), value, mask)


def _backward_with_list(
    operator: AttentionOperator,
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    *rest: Any,
) -> tuple[Tensor, ...]:
    *operands, mask = rest
    levels = levels_from_list(value, spatial_shapes)
    return asked_for(operator.backward(grad_output, value, levels, *operands), value, mask)
