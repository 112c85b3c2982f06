"""Checks of the operands of ``deform_conv2d``.

The compiled kernels say the same sentences (csrc/deform_conv2d/checks.cpp). Only shapes, dtypes
and devices are looked at.
"""

from collections.abc import Sequence

from torch import Tensor

from .checks import VALUE_DTYPES, check_dtype, dtype_name, fail
from .deform_conv2d_reference import Geometry


def check_operands(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
) -> None:
    """Compare the operands' shapes, dtypes and devices with one another.

    Raises:
        ValueError: naming the operand, what was expected and what was found.
        TypeError: the same for a dtype.
    """
    if input.dtype not in VALUE_DTYPES:
        raise TypeError(
            'input: expected dtype float32, float64, float16 or bfloat16, '
            f'got {dtype_name(input.dtype)}'
        )
    if input.dim() != 4:
        fail('input', 'shape (B, C, H, W)', tuple(input.shape))
    if weight.dim() != 4:
        fail('weight', 'shape (O, C/groups, kh, kw)', tuple(weight.shape))
    _check_geometry(input, weight, geometry)
    b, c = input.shape[:2]
    out, _, kh, kw = weight.shape
    size = geometry.output_size(input, weight)
    points = geometry.deform_groups * kh * kw
    for name, tensor, shape in (
        ('offset', offset, (b, 2 * points, *size)),
        ('mask', mask, (b, points, *size)),
        ('weight', weight, (out, c // geometry.groups, kh, kw)),
        ('bias', bias, (out,)),
    ):
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            fail(name, f'shape {shape}', tuple(tensor.shape))
        if name in ('offset', 'mask'):
            check_dtype(name, tensor, input)
        else:
            _check_same(name, tensor, input)
        if tensor.device != input.device:
            fail(name, f'device {input.device} as input', tensor.device)


def _check_geometry(input: Tensor, weight: Tensor, geometry: Geometry) -> None:
    _check_pair('stride', geometry.stride, 1)
    _check_pair('padding', geometry.padding, 0)
    _check_pair('dilation', geometry.dilation, 1)
    channels, out, kh, kw = input.shape[1], *(weight.shape[i] for i in (0, 2, 3))
    if kh < 1 or kw < 1:
        fail('weight', 'a kernel of at least 1x1', f'{kh}x{kw}')
    for name, groups, axes in (
        ('groups', geometry.groups, (('input', channels), ('weight', out))),
        ('deform_groups', geometry.deform_groups, (('input', channels),)),
    ):
        if groups < 1:
            fail(name, 'at least 1', groups)
        for owner, count in axes:
            if count % groups:
                kind = 'input' if owner == 'input' else 'output'
                fail(name, f'a divisor of the {count} {kind} channels', groups)
    height, width = geometry.output_size(input, weight)
    if height < 1 or width < 1:
        fail('input', 'a size that gives at least 1x1 outputs', f'{height}x{width} outputs')
    if input.shape[2] * input.shape[3] >= 2**31:
        fail('input', 'less than 2^31 pixels', input.shape[2] * input.shape[3])


def _check_pair(name: str, pair: Sequence[int], least: int) -> None:
    if len(pair) != 2:
        fail(name, 'two integers (y, x)', tuple(pair))
    if pair[0] < least or pair[1] < least:
        fail(name, f'at least {least}', tuple(pair))


def _check_same(name: str, tensor: Tensor, input: Tensor) -> None:
    if tensor.dtype != input.dtype:
        raise TypeError(
            f'{name}: expected dtype {dtype_name(input.dtype)}, got {dtype_name(tensor.dtype)}'
        )


def check_grad_output(grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor) -> None:
    """Check that ``grad_output`` looks like the operator's output.

    Raises:
        ValueError: if shape or device differ.
        TypeError: if the dtype differs.
    """
    expected = (input.shape[0], weight.shape[0], *offset.shape[2:])
    if tuple(grad_output.shape) != expected:
        fail('grad_output', f'shape {expected}', tuple(grad_output.shape))
    _check_same('grad_output', grad_output, input)
    if grad_output.device != input.device:
        fail('grad_output', f'device {input.device} as input', grad_output.device)
