"""Operands of deform_conv2d for the tests, a slow loop to compare with, and the backends."""

import math
from typing import NamedTuple

import pytest
import torch

from isda_suite.ops.deform_conv2d import _backward_reference, _forward_reference
from tests.ops.operands import needs_library, norm_error

__all__ = ['BACKENDS', 'Operands', 'make_operands', 'needs_library', 'norm_error', 'run']

BACKENDS = [
    pytest.param('compiled', marks=needs_library),
    pytest.param('cuda_body', marks=needs_library),
    'reference',
]
"""What a test runs on: the kernels, the CUDA kernels' bodies compiled for the host, plain torch."""


class Operands(NamedTuple):
    input: torch.Tensor
    offset: torch.Tensor
    mask: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1

    @property
    def tensors(self):
        return [t for t in self[:5] if t is not None]

    def map(self, function):
        return Operands(*(t if t is None else function(t) for t in self[:5]), *self[5:])

    def to(self, dtype, points_dtype=None):
        points_dtype = points_dtype or dtype
        cast = self.map(lambda t: t.to(dtype))
        mask = None if self.mask is None else self.mask.to(points_dtype)
        return cast._replace(offset=self.offset.to(points_dtype), mask=mask)

    def requires_grad(self):
        return self.map(lambda t: t.detach().clone().requires_grad_())

    def channels_last(self):
        return self._replace(input=self.input.contiguous(memory_format=torch.channels_last))


def make_operands(
    images=2,
    channels=6,
    out_channels=4,
    size=(7, 8),
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
    groups=1,
    deform_groups=1,
    mask=True,
    bias=True,
    dtype=torch.float64,
    seed=0,
):
    """Random operands; points reach a little beyond the input."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    out = [
        (size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(2)
    ]
    points = deform_groups * kernel[0] * kernel[1]
    operands = Operands(
        normal(images, channels, *size),
        1.5 * normal(images, 2 * points, *out),
        normal(images, points, *out).sigmoid() if mask else None,
        normal(out_channels, channels // groups, *kernel),
        normal(out_channels) if bias else None,
        stride,
        padding,
        dilation,
        groups,
        deform_groups,
    )
    return operands.to(dtype)


def grad_like_output(operands, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(operands.input), len(operands.weight), *operands.offset.shape[2:])
    grad = torch.randn(shape, generator=generator, dtype=torch.float64)
    return grad.to(operands.input.dtype)


def run_forward(backend, operands):
    if backend == 'reference':
        return _forward_reference(*operands)
    middle = {'compiled': '', 'cuda_body': '_cuda_body_on_host'}[backend]
    name = f'{"_" if middle else ""}deform_conv2d{middle}'
    return getattr(torch.ops.isda_suite, name)(*operands)


def run_backward(backend, operands, grad_output, wanted=None):
    wanted = wanted or [t is not None for t in operands[:5]]
    arguments = (grad_output, *operands[:4], *operands[5:], wanted)
    if backend == 'reference':
        return _backward_reference(*arguments)
    middle = {'compiled': '', 'cuda_body': '_cuda_body_on_host'}[backend]
    name = f'{"_" if middle else ""}deform_conv2d_backward{middle}'
    return getattr(torch.ops.isda_suite, name)(*arguments)


def run(backend, operands, grad_output=None):
    """Output and the gradients of the operands that are there."""
    grad_output = grad_like_output(operands) if grad_output is None else grad_output
    gradients = run_backward(backend, operands, grad_output)
    there = [g for g, t in zip(gradients, operands[:5], strict=True) if t is not None]
    return run_forward(backend, operands), *there


def _bilinear(image, y, x):
    """Sample the (H, W) list of lists, zero outside."""
    h, w = len(image), len(image[0])
    if not (-1 < y < h and -1 < x < w):
        return 0.0
    total = 0.0
    for cy in (math.floor(y), math.floor(y) + 1):
        for cx in (math.floor(x), math.floor(x) + 1):
            if 0 <= cx < w and 0 <= cy < h:
                total += (1 - abs(x - cx)) * (1 - abs(y - cy)) * image[cy][cx]
    return total


def slow_loop(operands):
    """The definition, one sample at a time, without any tensor arithmetic."""
    o = operands
    image, offset, weight = o.input.tolist(), o.offset.tolist(), o.weight.tolist()
    mask = None if o.mask is None else o.mask.tolist()
    (kh, kw), (ho, wo) = o.weight.shape[2:], o.offset.shape[2:]
    per_group = o.input.shape[1] // o.groups
    out_per_group = len(weight) // o.groups
    per_deform_group = o.input.shape[1] // o.deform_groups
    out = torch.zeros(len(image), len(weight), ho, wo, dtype=torch.float64)
    for b, oc, i, j in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        total = 0.0 if o.bias is None else o.bias[oc].item()
        for ci in range(per_group):
            c = oc // out_per_group * per_group + ci
            for k in range(kh * kw):
                plane = c // per_deform_group * kh * kw + k
                y = i * o.stride[0] - o.padding[0] + k // kw * o.dilation[0]
                x = j * o.stride[1] - o.padding[1] + k % kw * o.dilation[1]
                y += offset[b][2 * plane][i][j]
                x += offset[b][2 * plane + 1][i][j]
                share = 1.0 if mask is None else mask[b][plane][i][j]
                total += weight[oc][ci][k // kw][k % kw] * share * _bilinear(image[b][c], y, x)
        out[b, oc, i, j] = total
    return out
