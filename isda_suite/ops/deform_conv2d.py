"""The operator ``isda_suite::deform_conv2d``: everything about it that is not a kernel.

The compiled library brings the schemas and the CPU kernels. Without it the schemas are defined
here. In both cases the reference serves every device that has no compiled kernel, and fake
kernels, autograd, autocast and vmap are registered here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from .checks import refuse_tangents
from .deform_conv2d_checks import check_grad_output, check_operands
from .deform_conv2d_reference import (
    Geometry,
    memory_format_of,
    reference_backward,
    reference_forward,
)
from .library import LIBRARY
from .transforms import fold, transformable, unfold

NAMESPACE = 'isda_suite'
_GEOMETRY = (
    'SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, SymInt deform_groups'
)
SCHEMAS = {
    'deform_conv2d': '(Tensor input, Tensor offset, Tensor? mask, Tensor weight, Tensor? bias, '
    f'{_GEOMETRY}) -> Tensor',
    'deform_conv2d_backward': '(Tensor grad_output, Tensor input, Tensor offset, Tensor? mask, '
    f'Tensor weight, {_GEOMETRY}, bool[5] output_mask) '
    '-> (Tensor, Tensor, Tensor, Tensor, Tensor)',
}
"""What csrc/registration.cpp defines too; a test compares the two."""

_Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
# Any: torch leaves its methods untyped.
_fragment: Any = torch.library.Library(NAMESPACE, 'FRAGMENT')  # type: ignore[no-untyped-call]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    r"""Convolve with every tap of the kernel moved by an offset of its own at every pixel.

    .. math:: y_{oi} = b_o + \sum_{ck} w_{ock} \, m_{g(c)ki} \, x_c(p_{ki} + \Delta_{g(c)ki})

    Axes: B images, C input and O output channels, (H, W) input and (Ho, Wo) output size,
    K = kh*kw taps, G = ``deform_groups``. Samples between pixels are bilinear; outside is zero.

    Args:
        input: (B, C, H, W), float32, float64, float16 or bfloat16; channels last is used as it is.
        offset: (B, 2*G*K, Ho, Wo) in pixels; channel (g*K + k)*2 is y, the next one x. Any real
            number is legal. Like the mask in the dtype of ``input``, or float32 beside a 16-bit
            ``input``.
        mask: (B, G*K, Ho, Wo), multiplied as given; ``None`` is version 1 of the operator.
        weight: (O, C/groups, kh, kw) in the dtype of ``input``.
        bias: (O,) in the dtype of ``input``, or ``None``.
        stride: Step of the kernel, one number or (y, x).
        padding: Zeros around the input, one number or (y, x).
        dilation: Distance of the taps, one number or (y, x).
        groups: Groups of the weight.
        deform_groups: Runs of input channels with offsets of their own.

    Returns:
        (B, O, Ho, Wo) in dtype and memory format of ``input``.

    Raises:
        ValueError: if a shape, a device or a number does not fit.
        TypeError: if a dtype does not fit.
        NotImplementedError: if forward-mode derivatives are asked for.

    Source: Deformable ConvNets (arXiv:1703.06211), v2 (arXiv:1811.11168), equation 1.
    """
    refuse_tangents('deform_conv2d', input, offset, mask, weight, bias)
    pairs = (list(_pair(stride)), list(_pair(padding)), list(_pair(dilation)))
    operands: tuple[Any, ...] = (input, offset, mask, weight, bias)
    device = input.device.type
    if device in _AUTOCAST and torch.is_autocast_enabled(device):
        # Inside of transforms autograd sees the operands before the operator's own rule does.
        operands = _cast(device, *operands)
    return _call_forward(*operands, *pairs, groups, deform_groups)


def _forward_reference(*args: Any) -> Tensor:
    input, offset, mask, weight, bias, *rest = args
    check_operands(input, offset, mask, weight, bias, Geometry(*rest))
    return reference_forward(input, offset, mask, weight, bias, Geometry(*rest))


def _check_backward(grad_output: Tensor, args: tuple[Any, ...]) -> list[bool]:
    """Check the operands; return which gradients are computed: none of a mask that is not there."""
    input, offset, mask, weight, *rest, output_mask = args
    check_operands(input, offset, mask, weight, None, Geometry(*rest))
    check_grad_output(grad_output, input, weight, offset)
    return [asked and (i != 2 or mask is not None) for i, asked in enumerate(output_mask)]


def _backward_reference(grad_output: Tensor, *args: Any) -> _Gradients:
    wanted = _check_backward(grad_output, args)
    input, offset, mask, weight, *rest, _ = args
    gradients = reference_backward(grad_output, input, offset, mask, weight, Geometry(*rest))
    a, b, c, d, e = (
        g if asked else input.new_empty(0) for g, asked in zip(gradients, wanted, strict=True)
    )
    return a, b, c, d, e


def _forward_fake(*args: Any) -> Tensor:
    input, offset, mask, weight, bias, *rest = args
    geometry = Geometry(*rest)
    check_operands(input, offset, mask, weight, bias, geometry)
    shape = (input.shape[0], weight.shape[0], *geometry.output_size(input, weight))
    return torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=memory_format_of(input)
    )


def _backward_fake(grad_output: Tensor, *args: Any) -> _Gradients:
    wanted = _check_backward(grad_output, args)
    input, offset, mask, weight = args[:4]
    bias = weight.new_empty(weight.shape[0])
    a, b, c, d, e = (
        torch.empty(
            operand.shape,
            dtype=operand.dtype,
            device=operand.device,
            memory_format=memory_format_of(input) if operand is input else torch.contiguous_format,
        )
        if asked
        else input.new_empty(0)
        for operand, asked in zip((input, offset, mask, weight, bias), wanted, strict=True)
    )
    return a, b, c, d, e


def _save_operands(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.geometry = inputs[5:]
    ctx.save_for_backward(*inputs[:4])


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
    asked = list(ctx.needs_input_grad[:5])
    gradients = _call_backward(grad_output, *ctx.saved_tensors, *ctx.geometry, asked)
    return *(g if m else None for g, m in zip(gradients, asked, strict=True)), *(None,) * 5


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: _Gradients) -> None:
    *ctx.geometry, mask = inputs[5:]
    ctx.asked = [asked and (i != 2 or inputs[3] is not None) for i, asked in enumerate(mask)]
    ctx.save_for_backward(*inputs[:5])


def _differentiate_twice(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """Gradients of the gradients, by differentiating the reference; rarely used, slow is fine."""
    there = [t is not None for t in ctx.saved_tensors]

    def first(*operands: Tensor) -> list[Tensor]:
        given = iter(operands)
        all_five: list[Any] = [next(given) if t else None for t in there]
        grad_output, input, offset, mask, weight = all_five
        geometry = Geometry(*ctx.geometry)
        gradients = reference_backward(grad_output, input, offset, mask, weight, geometry)
        return [g for g, asked in zip(gradients, ctx.asked, strict=True) if asked]

    vjp: Any = torch.func.vjp  # typed as if it always returned what has_aux adds
    _, pull_back = vjp(first, *(t for t in ctx.saved_tensors if t is not None))
    second = iter(pull_back([g for g, asked in zip(grads, ctx.asked, strict=True) if asked]))
    return *(next(second) if t else None for t in there), *(None,) * 6


_AUTOCAST = ('cpu', 'cuda')


def _cast(
    device: str, input: Tensor, offset: Tensor, *rest: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Bring everything to autocast's dtype, but keep offsets in the arithmetic dtype."""
    double = input.dtype == torch.float64  # autocast leaves double precision alone
    dtype = torch.float64 if double else torch.get_autocast_dtype(device)
    points = offset.to(torch.float64 if double else torch.float32)
    return input.to(dtype), points, *(None if t is None else t.to(dtype) for t in rest)


def _under_autocast(operator: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """Cast the operands and call the operator.

    ``torch.library.register_autocast`` would round the offsets too, so this is written by hand.
    """
    key = getattr(torch._C.DispatchKey, f'Autocast{device}')
    excluded = torch._C.DispatchKeySet(key)

    def kernel(*args: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return operator(*_cast(device.lower(), *args[:5]), *args[5:])

    return kernel


def _fold_all(
    operands: tuple[Tensor | None, ...], dims: tuple[int | None, ...], size: int
) -> list[Tensor | None]:
    pairs = zip(operands, dims, strict=True)
    return [None if t is None else fold(t, dim, size) for t, dim in pairs]


def _refuse_mapped(name: str, dim: int | None) -> None:
    if dim is not None:
        raise ValueError(
            f'{name}: expected the same for every item under vmap, got it mapped over axis {dim}'
        )


def _forward_vmap(
    call: Callable[..., Tensor], info: Any, in_dims: tuple[Any, ...], *args: Any
) -> tuple[Tensor, int]:
    _refuse_mapped('weight', in_dims[3])
    _refuse_mapped('bias', in_dims[4])
    size = info.batch_size
    folded = _fold_all(args[:3], in_dims[:3], size)
    return unfold(call(*folded, *args[3:]), size), 0


def _backward_vmap(
    call: Callable[..., _Gradients], info: Any, in_dims: tuple[Any, ...], *args: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Gradients of weight and bias differ from item to item, so the items go one by one."""
    _refuse_mapped('weight', in_dims[4])
    size = info.batch_size
    folded = _fold_all(args[:4], in_dims[:4], size)
    split = [None if t is None else unfold(t, size) for t in folded]
    items = [call(*(None if t is None else t[i] for t in split), *args[4:]) for i in range(size)]
    return tuple(torch.stack(gradients) for gradients in zip(*items, strict=True)), (0,) * 5


_call_forward = transformable('deform_conv2d', _save_operands, _differentiate, _forward_vmap)
_call_backward = transformable(
    'deform_conv2d_backward', _save_for_second, _differentiate_twice, _backward_vmap
)


def _register() -> None:
    for name, reference, fake, differentiate, save, vmap in (
        (
            'deform_conv2d',
            _forward_reference,
            _forward_fake,
            _differentiate,
            _save_operands,
            _forward_vmap,
        ),
        (
            'deform_conv2d_backward',
            _backward_reference,
            _backward_fake,
            _differentiate_twice,
            _save_for_second,
            _backward_vmap,
        ),
    ):
        if not LIBRARY.loaded:
            _fragment.define(name + SCHEMAS[name], tags=(torch.Tag.pt2_compliant_tag,))
        _fragment.impl(name, reference, 'CompositeExplicitAutograd')
        qualified = f'{NAMESPACE}::{name}'
        torch.library.register_fake(qualified, fake, lib=_fragment)
        torch.library.register_autograd(qualified, differentiate, setup_context=save, lib=_fragment)
        if hasattr(torch.library, 'register_vmap'):  # torch >= 2.5
            rule = partial(vmap, getattr(torch.ops.isda_suite, name))
            torch.library.register_vmap(qualified, rule, lib=_fragment)
    operator = torch.ops.isda_suite.deform_conv2d.default
    for device in ('CPU', 'CUDA'):
        kernel = _under_autocast(operator, device)
        _fragment.impl('deform_conv2d', kernel, f'Autocast{device}')


_register()
