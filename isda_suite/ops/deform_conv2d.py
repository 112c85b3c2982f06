"""The operator ``isda_suite::deform_conv2d``: everything about it that is not a kernel.

The compiled library brings the schemas and the CPU kernels. Without it the schemas are defined
here. In both cases the reference serves every device that has no compiled kernel, and fake
kernels, autograd, autocast and vmap are registered here.
"""

from collections.abc import Callable, Sequence
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
from .transforms import fold, unfold

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
    return torch.ops.isda_suite.deform_conv2d.default(
        input, offset, mask, weight, bias, *pairs, groups, deform_groups
    )


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
    gradients = torch.ops.isda_suite.deform_conv2d_backward.default(
        grad_output, *ctx.saved_tensors, *ctx.geometry, asked
    )
    return *(g if m else None for g, m in zip(gradients, asked, strict=True)), *(None,) * 5


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: _Gradients) -> None:
    ctx.geometry, ctx.mask = inputs[5:-1], inputs[-1]
    ctx.save_for_backward(*inputs[:5])


def _differentiate_twice(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    """Gradients of the gradients, by differentiating the reference; rarely used, slow is fine."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [
            t if t is None or (create_graph and t.requires_grad) else t.detach().requires_grad_()
            for t in ctx.saved_tensors
        ]
        grad_output, input, offset, mask, weight = leaves
        first = reference_backward(
            grad_output, input, offset, mask, weight, Geometry(*ctx.geometry)
        )
        asked = [
            (g, upstream)
            for g, upstream, m in zip(first, grads, ctx.mask, strict=True)
            if m and upstream is not None and upstream.numel() == g.numel()
        ]
        found = iter(
            torch.autograd.grad(
                [g for g, _ in asked],
                [leaf for leaf in leaves if leaf is not None],
                [upstream for _, upstream in asked],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return *(None if leaf is None else next(found) for leaf in leaves), *(None,) * 6


def _under_autocast(operator: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """Bring everything to autocast's dtype, but keep offsets in the arithmetic dtype.

    ``torch.library.register_autocast`` would round the offsets too, so this is written by hand.
    """
    key = getattr(torch._C.DispatchKey, f'Autocast{device}')
    excluded = torch._C.DispatchKeySet(key)

    def kernel(input: Tensor, offset: Tensor, *rest: Any) -> Tensor:
        double = input.dtype == torch.float64  # autocast leaves double precision alone
        dtype = torch.float64 if double else torch.get_autocast_dtype(device.lower())
        mask, weight, bias = (None if t is None else t.to(dtype) for t in rest[:3])
        offset = offset.to(torch.float64 if double else torch.float32)
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return operator(input.to(dtype), offset, mask, weight, bias, *rest[3:])

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


def _forward_vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    _refuse_mapped('weight', in_dims[3])
    _refuse_mapped('bias', in_dims[4])
    size = info.batch_size
    folded = _fold_all(args[:3], in_dims[:3], size)
    output = torch.ops.isda_suite.deform_conv2d.default(*folded, *args[3:])
    return unfold(output, size), 0


def _backward_vmap(
    info: Any, in_dims: tuple[Any, ...], *args: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Gradients of weight and bias differ from item to item, so the items go one by one."""
    _refuse_mapped('weight', in_dims[4])
    size = info.batch_size
    operator = torch.ops.isda_suite.deform_conv2d_backward.default
    folded = _fold_all(args[:4], in_dims[:4], size)
    split = [None if t is None else unfold(t, size) for t in folded]
    items = [
        operator(*(None if t is None else t[i] for t in split), *args[4:]) for i in range(size)
    ]
    return tuple(torch.stack(gradients) for gradients in zip(*items, strict=True)), (0,) * 5


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
            torch.library.register_vmap(qualified, vmap, lib=_fragment)
    operator = torch.ops.isda_suite.deform_conv2d.default
    for device in ('CPU', 'CUDA'):
        kernel = _under_autocast(operator, device)
        _fragment.impl('deform_conv2d', kernel, f'Autocast{device}')


_register()
