"""Deformable convolution as plain tensor operations.

This is what runs where no compiled kernel fits, and what the kernels are tested against. Points
follow the rules of :mod:`isda_suite.ops.bilinear`.

Axes: B images, C input channels, O output channels, (H, W) input and N = Ho*Wo output pixels,
K = kh*kw taps of the kernel, G groups of channels with their own offsets, R groups of the weight.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .bilinear import Neighbours, find_neighbours, gather
from .reference import arithmetic_dtype


class Geometry(NamedTuple):
    """Where the kernel is laid; pairs are (y, x)."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    deform_groups: int

    def output_size(self, input: Tensor, weight: Tensor) -> tuple[int, int]:
        """Compute (Ho, Wo); an axis may come out as 0 or less."""
        height, width = (
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, padding, dilation, taps, stride in zip(
                input.shape[2:],
                self.padding,
                self.dilation,
                weight.shape[2:],
                self.stride,
                strict=True,
            )
        )
        return height, width


class _Samples(NamedTuple):
    """What every pass starts from, in the arithmetic dtype."""

    flat: Tensor  # (B*H*W*G, C/G) input
    points: Neighbours  # of (B, G, K, N) points
    rows: Tensor  # (4, B, G, K, N) rows of flat
    share: Tensor  # (4, B, G, K, N) bilinear weight times mask, 0 where not valid
    mask: Tensor  # (B, G, K, N) or (1, 1, 1, 1) ones
    weight: Tensor  # (R, O/R, C/R * K)


def in_format_of(result: Tensor, input: Tensor) -> Tensor:
    """Lay (B, ., ., .) out as ``input``: channels last if that is, and only that, else dense."""
    # A clone: `contiguous` keeps the strides of axes of length one as they happen to be.
    return result.clone(memory_format=memory_format_of(input))


def memory_format_of(input: Tensor) -> torch.memory_format:
    """Return the memory format that results keep."""
    last = not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _sample(
    input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry
) -> _Samples:
    b, c, h, w = input.shape
    kh, kw = weight.shape[2:]
    ho, wo = geometry.output_size(input, weight)
    g, k = geometry.deform_groups, kh * kw
    dtype, device = arithmetic_dtype(input), input.device

    def grid(axis: int, taps: int, pixels: int) -> Tensor:
        start = torch.arange(pixels, device=device, dtype=dtype) * geometry.stride[axis]
        steps = torch.arange(taps, device=device, dtype=dtype) * geometry.dilation[axis]
        return steps[:, None] + start - geometry.padding[axis]

    moved = offset.to(dtype).reshape(b, g, kh, kw, 2, ho, wo)
    y = (moved[:, :, :, :, 0] + grid(0, kh, ho)[:, None, :, None]).reshape(b, g, k, ho * wo)
    x = (moved[:, :, :, :, 1] + grid(1, kw, wo)[None, :, None, :]).reshape(b, g, k, ho * wo)
    points = find_neighbours(x, y, h, w)
    batch = torch.arange(b, device=device).view(b, 1, 1, 1)
    group = torch.arange(g, device=device).view(1, g, 1, 1)
    rows = (batch * (h * w) + points.pixel) * g + group
    ones = torch.ones((1, 1, 1, 1), dtype=dtype, device=device)
    mask = ones if mask is None else mask.to(dtype).reshape(b, g, k, ho * wo)
    share = torch.where(points.valid, points.weight * mask, torch.zeros_like(points.weight))
    flat = input.to(dtype).permute(0, 2, 3, 1).reshape(b * h * w * g, c // g)
    if h * w == 0:  # all points are outside, but gathering needs a row
        flat, rows = flat.new_zeros((1, c // g)), torch.zeros_like(rows)
    r, o = geometry.groups, weight.shape[0]
    matrix = weight.to(dtype).reshape(r, o // r, c // r * k)
    return _Samples(flat, points, rows, share, mask, matrix)


def _columns(samples: _Samples, groups: int) -> Tensor:
    """Build the (B, R, C/R * K, N) matrix that the weight multiplies."""
    found = gather(samples.flat, samples.rows, samples.points.valid)
    columns = (samples.share.unsqueeze(-1) * found).sum(0)  # (B, G, K, N, C/G)
    b, g, k, n, channels = columns.shape
    columns = columns.permute(0, 1, 4, 2, 3)
    return columns.reshape(b, groups, g * channels // groups * k, n)


def reference_forward(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Convolve with every tap moved by its offset.

    Args:
        input: (B, C, H, W).
        offset: (B, 2*G*K, Ho, Wo), for every group and tap the shift along y and along x.
        mask: (B, G*K, Ho, Wo), multiplied as given; ``None`` is all ones.
        weight: (O, C/R, kh, kw).
        bias: (O,) or ``None``.
        geometry: strides, padding, dilation and groups.

    Returns:
        (B, O, Ho, Wo) in dtype and memory format of ``input``.

    Source: Deformable ConvNets v2 (arXiv:1811.11168), equation 1.
    """
    samples = _sample(input, offset, mask, weight, geometry)
    output = samples.weight @ _columns(samples, geometry.groups)
    output = output.reshape(input.shape[0], weight.shape[0], *offset.shape[2:])
    if bias is not None:
        output = output + bias.to(output.dtype).view(1, -1, 1, 1)
    return in_format_of(output.to(input.dtype), input)


def reference_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    geometry: Geometry,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``sum(grad_output * output)``.

    Built from differentiable operations, so it also serves for second derivatives.

    Args:
        grad_output: (B, O, Ho, Wo).
        input: (B, C, H, W).
        offset: (B, 2*G*K, Ho, Wo).
        mask: (B, G*K, Ho, Wo) or ``None``.
        weight: (O, C/R, kh, kw).
        geometry: strides, padding, dilation and groups.

    Returns:
        Gradients of input, offset, mask (as if it were there), weight and bias, in the dtypes of
        the operands.
    """
    b, c, h, w = input.shape
    g, r = geometry.deform_groups, geometry.groups
    samples = _sample(input, offset, mask, weight, geometry)
    points = samples.points
    k, n = points.fx.shape[2:]
    upstream = grad_output.to(samples.flat.dtype).reshape(b, r, weight.shape[0] // r, n)
    spread = samples.weight.transpose(1, 2) @ upstream  # (B, R, C/R * K, N)
    spread = spread.reshape(b, g, c // g, k, n).permute(0, 1, 3, 4, 2)
    scattered = torch.where(points.valid.unsqueeze(-1), samples.share.unsqueeze(-1) * spread, 0.0)
    grad_input = torch.zeros_like(samples.flat).index_add(
        0, samples.rows.flatten(), scattered.flatten(0, -2)
    )
    grad_input = grad_input[: b * h * w * g].view(b, h, w, c).permute(0, 3, 1, 2)
    found = gather(samples.flat, samples.rows, points.valid)
    along_y, along_x, along_mask = _point_gradients((found * spread).sum(-1), points, samples.mask)
    grad_offset = torch.stack([along_y, along_x], 3).reshape(offset.shape)
    grad_mask = along_mask.contiguous().reshape(b, g * k, *offset.shape[2:])
    columns = _columns(samples, r)
    grad_weight = (upstream @ columns.transpose(2, 3)).sum(0)
    return (
        in_format_of(grad_input.to(input.dtype), input),
        grad_offset.to(offset.dtype),
        grad_mask.to(input.dtype if mask is None else mask.dtype),
        grad_weight.reshape(weight.shape).to(weight.dtype),
        upstream.sum((0, 3)).reshape(weight.shape[0]).to(weight.dtype),
    )


def _point_gradients(d: Tensor, points: Neighbours, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients along y, x and of the mask from the (4, ...) products with the neighbours."""
    d00, d01, d10, d11 = torch.where(points.valid, d, torch.zeros_like(d)).unbind(0)
    fx, fy = points.fx, points.fy
    inside = points.valid.any(0)
    along_y = mask * ((1 - fx) * (d10 - d00) + fx * (d11 - d01))
    along_x = mask * ((1 - fy) * (d01 - d00) + fy * (d11 - d10))
    value = (1 - fy) * ((1 - fx) * d00 + fx * d01) + fy * ((1 - fx) * d10 + fx * d11)
    zero = torch.zeros_like(value)
    y, x, m = (torch.where(inside, v, zero) for v in (along_y, along_x, value))
    return y, x, m
