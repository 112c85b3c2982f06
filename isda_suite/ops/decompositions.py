"""Our operators as plain ATen operations, for targets that do not have our library.

``torch.export`` keeps an operator as one node; ``run_decompositions(decomposition_table())`` turns
it into gathers and arithmetic. Tables of levels stay tensors and are never read, so their content
is not checked, and the graph does not grow with the number of levels. With a list of sizes every
level has its own nodes, which need less memory at a time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .checks import levels_from_list
from .deform_conv2d_export import backward_as_aten, forward_as_aten
from .reference import Level, PointLevels, reference_backward, reference_forward


def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Return what turns our operators into ATen operations.

    Returns:
        Operator overload -> function, for ``ExportedProgram.run_decompositions`` or
        ``torch.fx.experimental.proxy_tensor.make_fx``. Merge it into another table to keep that
        one's entries too.
    """
    forward = torch.ops.isda_suite.ms_deform_attn
    backward = torch.ops.isda_suite.ms_deform_attn_backward
    return {
        forward.default: _forward_with_tables,
        forward.list: _forward_with_list,
        backward.default: _backward_with_tables,
        backward.list: _backward_with_list,
        torch.ops.isda_suite.deform_conv2d.default: forward_as_aten,
        torch.ops.isda_suite.deform_conv2d_backward.default: backward_as_aten,
    }


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


def _in_one_level(locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Make (B, Q, M, 1, L*P, 2) and (B, Q, M, 1, L*P) of the operands."""
    return locations.flatten(3, 4).unsqueeze(3), weights.flatten(3, 4).unsqueeze(3)


def _forward_with_tables(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    points = attention_weights.shape[4]
    levels = _point_levels(value, spatial_shapes, level_start_index, points)
    return reference_forward(value, levels, *_in_one_level(sampling_locations, attention_weights))


def _forward_with_list(
    value: Tensor,
    spatial_shapes: list[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    levels = levels_from_list(value, spatial_shapes)
    return reference_forward(value, levels, sampling_locations, attention_weights)


def _backward_with_tables(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    output_mask: list[bool],
) -> tuple[Tensor, ...]:
    points = attention_weights.shape[4]
    levels = _point_levels(value, spatial_shapes, level_start_index, points)
    operands = _in_one_level(sampling_locations, attention_weights)
    grad_value, *rest = reference_backward(grad_output, value, levels, *operands)
    shapes = (sampling_locations.shape, attention_weights.shape)
    gradients = (grad_value, *(g.view(shape) for g, shape in zip(rest, shapes, strict=True)))
    return _asked_for(gradients, value, output_mask)


def _backward_with_list(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    output_mask: list[bool],
) -> tuple[Tensor, ...]:
    levels = levels_from_list(value, spatial_shapes)
    operands = (sampling_locations, attention_weights)
    gradients = reference_backward(grad_output, value, levels, *operands)
    return _asked_for(gradients, value, output_mask)


def _asked_for(
    gradients: tuple[Tensor, ...], value: Tensor, output_mask: list[bool]
) -> tuple[Tensor, ...]:
    zipped = zip(gradients, output_mask, strict=True)
    return tuple(g if asked else value.new_empty(0) for g, asked in zipped)
