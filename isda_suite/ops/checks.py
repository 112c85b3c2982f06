"""Checks of the operands, for the kernels written in Python and for fake tensors.

The compiled kernels say the same sentences (csrc/ms_deform_attn/checks.cpp). Only shapes, dtypes
and devices are looked at, except in :func:`levels_from_tensors`, which reads the index tables.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .reference import Level

MAX_CHANNELS = 1024
MAX_LEVELS = 4096
MAX_POINTS = 1024
VALUE_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module."""
    return str(dtype).removeprefix('torch.')


def fail(name: str, expected: str, got: Any) -> None:
    """Raise a ``ValueError`` in the one form of all our messages."""
    raise ValueError(f'{name}: expected {expected}, got {got}')


def refuse_tangents(operator: str, *operands: Tensor | None) -> None:
    """Raise rather than drop tangents, which is what PyTorch does with them here.

    Raises:
        NotImplementedError: if an operand of ``operator`` carries one.
    """
    if forward_ad._current_level < 0:
        return
    unpack: Any = forward_ad.unpack_dual  # untyped in torch
    if any(unpack(operand).tangent is not None for operand in operands if operand is not None):
        raise NotImplementedError(
            f'{operator}: forward-mode derivatives are not there, use reverse mode '
            '(torch.autograd.grad, torch.func.vjp)'
        )


def _check_value(value: Tensor, num_levels: int) -> None:
    if value.dtype not in VALUE_DTYPES:
        raise TypeError(
            'value: expected dtype float32, float64, float16 or bfloat16, '
            f'got {dtype_name(value.dtype)}'
        )
    if value.dim() != 4:
        fail('value', 'shape (B, S, M, C)', tuple(value.shape))
    if value.shape[3] > MAX_CHANNELS:
        fail('value', f'at most {MAX_CHANNELS} channels of a head', value.shape[3])
    if num_levels > MAX_LEVELS:
        fail('spatial_shapes', f'at most {MAX_LEVELS} levels', num_levels)


def _check_points(
    value: Tensor, num_levels: int, xy: tuple[str, Tensor], weights: tuple[str, Tensor]
) -> None:
    """Check the coordinates and the weights of all points, given with their names."""
    name, tensor = xy
    if tensor.dim() != 6:
        fail(name, 'shape (B, Q, M, L, P, 2)', tuple(tensor.shape))
    if tensor.shape[4] > MAX_POINTS:
        fail(name, f'at most {MAX_POINTS} points', tensor.shape[4])
    shape = (value.shape[0], tensor.shape[1], value.shape[2], num_levels, tensor.shape[4])
    for (name, tensor), expected in ((xy, (*shape, 2)), (weights, shape)):
        if tuple(tensor.shape) != expected:
            fail(name, f'shape {expected}', tuple(tensor.shape))
        check_dtype(name, tensor, value)
        _check_device(name, tensor, value)


def _check_device(name: str, tensor: Tensor, value: Tensor) -> None:
    if tensor.device != value.device:
        fail(name, f'device {value.device} as value', tensor.device)


def check_operands(
    value: Tensor, num_levels: int, sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    """Compare shapes, dtypes and devices of the operands of ``ms_deform_attn``.

    Raises:
        ValueError: naming the operand, what was expected and what was found.
        TypeError: the same for a dtype.
    """
    _check_value(value, num_levels)
    xy = ('sampling_locations', sampling_locations)
    _check_points(value, num_levels, xy, ('attention_weights', attention_weights))


def check_fused_operands(
    value: Tensor,
    num_levels: int,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> None:
    """Compare shapes, dtypes and devices of the operands of ``ms_deform_attn_fused``.

    Raises:
        ValueError: naming the operand, what was expected and what was found.
        TypeError: the same for a dtype.
    """
    _check_value(value, num_levels)
    xy = ('sampling_offsets', sampling_offsets)
    _check_points(value, num_levels, xy, ('attention_logits', attention_logits))
    b, q = value.shape[0], sampling_offsets.shape[1]
    shape = tuple(reference_points.shape)
    if not (
        len(shape) == 4
        and shape[:2] == (b, q)
        and shape[2] in (num_levels, 1)
        and shape[3] in (2, 4)
    ):
        fail('reference_points', f'shape ({b}, {q}, {num_levels} or 1, 2 or 4)', shape)
    check_dtype('reference_points', reference_points, value)
    _check_device('reference_points', reference_points, value)


def check_dtype(name: str, tensor: Tensor, value: Tensor) -> None:
    """Operands have value's dtype; beside a 16-bit value they may be float32."""
    if tensor.dtype == value.dtype:
        return
    half = value.dtype in (torch.float16, torch.bfloat16)
    if half and tensor.dtype == torch.float32:
        return
    allowed = dtype_name(value.dtype) + (' or float32' if half else '')
    raise TypeError(f'{name}: expected dtype {allowed}, got {dtype_name(tensor.dtype)}')


def check_grad_output(grad_output: Tensor, value: Tensor, queries: int) -> None:
    """Check that ``grad_output`` looks like the operator's output.

    Raises:
        ValueError: if shape or device differ.
        TypeError: if the dtype differs.
    """
    expected = (value.shape[0], queries, value.shape[2] * value.shape[3])
    if tuple(grad_output.shape) != expected:
        fail('grad_output', f'shape {expected}', tuple(grad_output.shape))
    if grad_output.dtype != value.dtype:
        raise TypeError(
            f'grad_output: expected dtype {dtype_name(value.dtype)}, '
            f'got {dtype_name(grad_output.dtype)}'
        )
    _check_device('grad_output', grad_output, value)


def check_index_tensors(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor) -> None:
    """Check shape, dtype and device of the two index tables.

    Raises:
        ValueError: if a shape or a device does not fit.
        TypeError: if a dtype is not int64 or int32.
    """
    for name, tensor in (
        ('spatial_shapes', spatial_shapes),
        ('level_start_index', level_start_index),
    ):
        if tensor.dtype not in (torch.int64, torch.int32):
            raise TypeError(
                f'{name}: expected dtype int64 or int32, got {dtype_name(tensor.dtype)}'
            )
        if tensor.device != value.device and tensor.device.type != 'cpu':
            fail(name, f'device {value.device} as value, or cpu', tensor.device)
    if spatial_shapes.dim() != 2 or spatial_shapes.shape[1] != 2:
        fail('spatial_shapes', 'shape (L, 2)', tuple(spatial_shapes.shape))
    expected = (spatial_shapes.shape[0],)
    if tuple(level_start_index.shape) != expected:
        fail('level_start_index', f'shape {expected}', tuple(level_start_index.shape))


def check_flat_shapes(spatial_shapes: Sequence[int]) -> int:
    """Check that the flat list holds pairs; return the number of levels.

    Raises:
        ValueError: if the length is odd.
    """
    if len(spatial_shapes) % 2:
        fail('spatial_shapes', 'an even number of integers (h, w pairs)', len(spatial_shapes))
    return len(spatial_shapes) // 2


def levels_from_tensors(
    value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor
) -> list[Level]:
    """Read the index tables and check that every level lies inside ``value``.

    Raises:
        ValueError: if a level has a negative size or reaches beyond the rows of ``value``.
    """
    sizes, starts = spatial_shapes.tolist(), level_start_index.tolist()
    levels = [Level(h, w, start) for (h, w), start in zip(sizes, starts, strict=True)]
    for i, level in enumerate(levels):
        _check_size(i, level)
        end = level.start + level.height * level.width
        if level.start < 0 or end > value.shape[1]:
            fail(
                'level_start_index',
                f'level {i} inside the {value.shape[1]} rows of value',
                f'rows {level.start} to {end}',
            )
    return levels


def levels_from_list(value: Tensor, spatial_shapes: Sequence[int]) -> list[Level]:
    """Lay levels one after the other; together they must be all rows of ``value``.

    Raises:
        ValueError: if a size is negative or the rows do not add up.
    """
    levels, start = [], 0
    for i in range(check_flat_shapes(spatial_shapes)):
        level = Level(spatial_shapes[2 * i], spatial_shapes[2 * i + 1], start)
        _check_size(i, level)
        levels.append(level)
        start += level.height * level.width
    if start != value.shape[1]:
        fail(
            'spatial_shapes', f'{value.shape[1]} rows in all, as value has', f'{start} rows in all'
        )
    return levels


def _check_size(i: int, level: Level) -> None:
    if level.height < 0 or level.width < 0:
        fail('spatial_shapes', 'sizes >= 0', f'({level.height}, {level.width}) for level {i}')
