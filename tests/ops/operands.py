"""Operands of ms_deform_attn for the tests, a slow loop to compare with, and the backends."""

import math
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist

from isda_suite.ops.library import LIBRARY
from isda_suite.ops.reference import Level, reference_backward, reference_forward

needs_library = pytest.mark.skipif(
    not LIBRARY.loaded, reason=f'the compiled library is not there: {LIBRARY.reason}'
)
BACKENDS = [
    pytest.param('compiled', marks=needs_library),
    pytest.param('cuda_body', marks=needs_library),
    'reference',
]


class Operands(NamedTuple):
    value: torch.Tensor
    spatial_shapes: torch.Tensor
    level_start_index: torch.Tensor
    sampling_locations: torch.Tensor
    attention_weights: torch.Tensor

    @property
    def levels(self):
        starts = self.level_start_index.tolist()
        sizes = self.spatial_shapes.tolist()
        return [Level(h, w, start) for (h, w), start in zip(sizes, starts, strict=True)]

    def to(self, value_dtype, points_dtype=None):
        points_dtype = points_dtype or value_dtype
        return self._replace(
            value=self.value.to(value_dtype),
            sampling_locations=self.sampling_locations.to(points_dtype),
            attention_weights=self.attention_weights.to(points_dtype),
        )

    def with_locations(self, locations):
        return self._replace(sampling_locations=locations)

    def requires_grad(self):
        return self._replace(
            value=self.value.detach().requires_grad_(),
            sampling_locations=self.sampling_locations.detach().requires_grad_(),
            attention_weights=self.attention_weights.detach().requires_grad_(),
        )


def start_index(shapes):
    areas = shapes.prod(1)
    return areas.cumsum(0) - areas


def make_operands(
    shapes=((5, 7), (3, 4), (1, 1)),
    images=2,
    queries=6,
    heads=3,
    channels=5,
    points=4,
    dtype=torch.float64,
    seed=0,
):
    """Random operands; locations reach a little beyond the levels."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(shapes, dtype=torch.int64).view(-1, 2)
    rows = int(shapes.prod(1).sum())
    size = (images, queries, heads, len(shapes), points)
    value = torch.randn(images, rows, heads, channels, generator=generator, dtype=torch.float64)
    locations = torch.rand(*size, 2, generator=generator, dtype=torch.float64) * 1.3 - 0.15
    weights = torch.rand(size, generator=generator, dtype=torch.float64)
    return Operands(value, shapes, start_index(shapes), locations, weights).to(dtype)


def grad_like_output(operands, seed=1):
    b, _, m, c = operands.value.shape
    generator = torch.Generator().manual_seed(seed)
    shape = (b, operands.sampling_locations.shape[1], m * c)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(operands.value.dtype)


def run_forward(backend, operands):
    if backend == 'reference':
        o = operands
        return reference_forward(o.value, o.levels, o.sampling_locations, o.attention_weights)
    name = {'compiled': 'ms_deform_attn', 'cuda_body': '_ms_deform_attn_cuda_body_on_host'}[backend]
    return getattr(torch.ops.isda_suite, name)(*operands)


def run_backward(backend, operands, grad_output):
    if backend == 'reference':
        o = operands
        return reference_backward(
            grad_output, o.value, o.levels, o.sampling_locations, o.attention_weights
        )
    middle = {'compiled': '', 'cuda_body': '_cuda_body_on_host'}[backend]
    prefix = '_' if middle else ''
    operator = getattr(torch.ops.isda_suite, f'{prefix}ms_deform_attn_backward{middle}')
    return operator(grad_output, *operands, [True, True, True])


def run(backend, operands, grad_output=None):
    """Output and the three gradients."""
    grad_output = grad_like_output(operands) if grad_output is None else grad_output
    return run_forward(backend, operands), *run_backward(backend, operands, grad_output)


def slow_loop(operands):
    """The definition, one corner at a time, without any tensor arithmetic."""
    value, shapes, starts, locations, weights = (t.tolist() for t in operands)
    b, q, m, num_levels, p, _ = operands.sampling_locations.shape
    channels = operands.value.shape[3]
    out = torch.zeros(b, q, m, channels, dtype=torch.float64)
    for bi in range(b):
        for qi in range(q):
            for mi in range(m):
                for li in range(num_levels):
                    (h, w), start = shapes[li], starts[li]
                    for pi in range(p):
                        u, v = locations[bi][qi][mi][li][pi]
                        x, y = u * w - 0.5, v * h - 0.5
                        if not (-1 < x < w and -1 < y < h):
                            continue
                        a = weights[bi][qi][mi][li][pi]
                        for cy in (math.floor(y), math.floor(y) + 1):
                            for cx in (math.floor(x), math.floor(x) + 1):
                                if not (0 <= cx < w and 0 <= cy < h):
                                    continue
                                share = a * (1 - abs(x - cx)) * (1 - abs(y - cy))
                                row = value[bi][start + cy * w + cx][mi]
                                for ci in range(channels):
                                    out[bi, qi, mi, ci] += share * row[ci]
    return out.flatten(2)


def norm_error(actual, expected):
    """Norm of the difference over the norm, in double precision."""
    actual, expected = actual.double(), expected.double()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-30))


def gradients(module, call):
    """Gradients of all parameters for one made-up loss."""
    module.zero_grad()
    call().square().sum().backward()
    return [p.grad.clone() for p in module.parameters()]


@contextmanager
def one_rank(folder):
    """A process group of this process alone."""
    dist.init_process_group('gloo', f'file://{folder}/store', rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
