"""The operator ``isda_suite::ms_deform_attn``: everything about it that is not a kernel.

The compiled library brings the schemas and the kernels for CPU and CUDA. Without it the schemas
are defined here. In both cases the reference serves every device that has no compiled kernel, and
fake kernels, autograd, autocast and vmap are registered here, so ``torch.ops.isda_suite`` looks
and behaves the same either way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import checks
from .library import LIBRARY
from .reference import Level, reference_backward, reference_forward
from .transforms import map_backward, map_forward, transformable

NAMESPACE = 'isda_suite'
_TABLES = 'Tensor spatial_shapes, Tensor level_start_index'
_LIST = 'SymInt[] spatial_shapes'
_OPERANDS = 'Tensor sampling_locations, Tensor attention_weights'
SCHEMAS = {
    'ms_deform_attn': f'(Tensor value, {_TABLES}, {_OPERANDS}) -> Tensor',
    'ms_deform_attn.list': f'(Tensor value, {_LIST}, {_OPERANDS}) -> Tensor',
    'ms_deform_attn_backward': f'(Tensor grad_output, Tensor value, {_TABLES}, {_OPERANDS}, '
    'bool[3] output_mask) -> (Tensor, Tensor, Tensor)',
    'ms_deform_attn_backward.list': f'(Tensor grad_output, Tensor value, {_LIST}, {_OPERANDS}, '
    'bool[3] output_mask) -> (Tensor, Tensor, Tensor)',
}
"""What csrc/registration.cpp defines too; a test compares the two."""

_Gradients = tuple[Tensor, Tensor, Tensor]
# Any: torch leaves its methods untyped.
_fragment: Any = torch.library.Library(NAMESPACE, 'FRAGMENT')  # type: ignore[no-untyped-call]


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
    checks.refuse_tangents('ms_deform_attn', value, sampling_locations, attention_weights)
    if not isinstance(spatial_shapes, Tensor):
        if level_start_index is not None:
            raise TypeError(
                'level_start_index: expected None beside a sequence of spatial_shapes, '
                f'got {type(level_start_index).__name__}'
            )
        flat = [size for pair in spatial_shapes for size in pair]
        return _call_forward(value, flat, sampling_locations, attention_weights)
    if level_start_index is None:
        areas = spatial_shapes.prod(1)
        level_start_index = areas.cumsum(0) - areas
    return _call_forward(
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    )


def _split(args: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...], Tensor, Tensor]:
    """Split (value, one list or two tables, locations, weights)."""
    return args[0], args[1:-2], args[-2], args[-1]


def _check(args: tuple[Any, ...]) -> None:
    """Check everything that can be checked without reading the tables."""
    value, tables, locations, weights = _split(args)
    if len(tables) == 1:
        num_levels = checks.check_flat_shapes(tables[0])
    else:
        checks.check_index_tensors(value, *tables)
        num_levels = tables[0].shape[0]
    checks.check_operands(value, num_levels, locations, weights)


def _levels(value: Tensor, tables: tuple[Any, ...]) -> list[Level]:
    if len(tables) == 1:
        return checks.levels_from_list(value, tables[0])
    return checks.levels_from_tensors(value, *tables)


def _forward_reference(*args: Any) -> Tensor:
    _check(args)
    value, tables, locations, weights = _split(args)
    return reference_forward(value, _levels(value, tables), locations, weights)


def _backward_reference(grad_output: Tensor, *args: Any) -> _Gradients:
    *operands, mask = args
    _check(tuple(operands))
    value, tables, locations, weights = _split(tuple(operands))
    checks.check_grad_output(grad_output, value, locations)
    levels = _levels(value, tables)
    gradients = reference_backward(grad_output, value, levels, locations, weights)
    a, b, c = (g if asked else value.new_empty(0) for g, asked in zip(gradients, mask, strict=True))
    return a, b, c


def _forward_fake(*args: Any) -> Tensor:
    _check(args)
    value, _, locations, _ = _split(args)
    return value.new_empty((value.shape[0], locations.shape[1], value.shape[2] * value.shape[3]))


def _backward_fake(grad_output: Tensor, *args: Any) -> _Gradients:
    *operands, mask = args
    _check(tuple(operands))
    value, _, locations, weights = _split(tuple(operands))
    checks.check_grad_output(grad_output, value, locations)
    a, b, c = (
        operand.new_empty(operand.shape) if asked else value.new_empty(0)
        for operand, asked in zip((value, locations, weights), mask, strict=True)
    )
    return a, b, c


def _save_operands(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, tables, locations, weights = _split(inputs)
    ctx.in_list = len(tables) == 1
    ctx.shapes = tables[0] if ctx.in_list else None
    ctx.save_for_backward(value, locations, weights, *(() if ctx.in_list else tables))


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
    value, locations, weights, *tables = ctx.saved_tensors
    tables = [ctx.shapes] if ctx.in_list else tables
    needed = ctx.needs_input_grad
    mask = [needed[0], needed[-2], needed[-1]]
    gradients = _call_backward(grad_output, value, *tables, locations, weights, mask)
    asked = [g if m else None for g, m in zip(gradients, mask, strict=True)]
    return asked[0], *(None for _ in tables), asked[1], asked[2]


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: _Gradients) -> None:
    grad_output, *operands, mask = inputs
    value, tables, locations, weights = _split(tuple(operands))
    ctx.in_list = len(tables) == 1
    ctx.shapes = tables[0] if ctx.in_list else None
    ctx.mask = mask
    saved = () if ctx.in_list else tables
    ctx.save_for_backward(grad_output, value, locations, weights, *saved)


def _differentiate_twice(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Gradients of the gradients, by differentiating the reference; rarely used, slow is fine."""
    operands, tables = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
    tables = (ctx.shapes,) if ctx.in_list else tables
    levels = _levels(operands[1], tables)

    def first(grad_output: Tensor, value: Tensor, *points: Tensor) -> list[Tensor]:
        gradients = reference_backward(grad_output, value, levels, *points)
        return [g for g, asked in zip(gradients, ctx.mask, strict=True) if asked]

    vjp: Any = torch.func.vjp  # typed as if it always returned what has_aux adds
    _, pull_back = vjp(first, *operands)
    second = pull_back([g for g, asked in zip(grads, ctx.mask, strict=True) if asked])
    return second[0], second[1], *(None for _ in tables), second[2], second[3], None


_call_forward = transformable('ms_deform_attn', _save_operands, _differentiate, map_forward)
_call_backward = transformable(
    'ms_deform_attn_backward',
    _save_for_second,
    _differentiate_twice,
    map_backward,
)


def _under_autocast(operator: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Keep ``value`` as it is and bring locations and weights to the arithmetic dtype.

    ``torch.library.register_autocast`` casts every operand to one dtype, which would round the
    locations, so this is registered by hand.
    """
    key = getattr(torch._C.DispatchKey, f'Autocast{device}')
    excluded = torch._C.DispatchKeySet(key)

    def kernel(*args: Any) -> Any:
        value, tables, locations, weights = _split(args)
        dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return operator(value, *tables, locations.to(dtype), weights.to(dtype))

    return kernel


def _packet(name: str) -> Any:
    return getattr(torch.ops.isda_suite, name.partition('.')[0])


def _register() -> None:
    for name, schema in SCHEMAS.items():
        if not LIBRARY.loaded:
            _fragment.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        backward = name.startswith('ms_deform_attn_backward')
        reference = _backward_reference if backward else _forward_reference
        _fragment.impl(name, reference, 'CompositeExplicitAutograd')
        qualified = f'{NAMESPACE}::{name}'
        torch.library.register_fake(
            qualified, _backward_fake if backward else _forward_fake, lib=_fragment
        )
        torch.library.register_autograd(
            qualified,
            _differentiate_twice if backward else _differentiate,
            setup_context=_save_for_second if backward else _save_operands,
            lib=_fragment,
        )
        if hasattr(torch.library, 'register_vmap'):  # since torch 2.5
            rule = partial(map_backward if backward else map_forward, _packet(name))
            torch.library.register_vmap(qualified, rule, lib=_fragment)
        if not backward:
            operator = getattr(_packet(name), 'list' if name.endswith('.list') else 'default')
            for device in ('CPU', 'CUDA'):
                _fragment.impl(name, _under_autocast(operator, device), f'Autocast{device}')


_register()
