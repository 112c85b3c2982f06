"""Operands of ms_deform_attn_fused for the tests, its definition, and the backends."""

from typing import NamedTuple

import pytest
import torch

from isda_suite.ops import ms_deform_attn
from isda_suite.ops.ms_deform_attn_fused_reference import fused_backward, fused_forward
from isda_suite.ops.reference import Level
from tests.ops.operands import needs_library, start_index

BACKENDS = [pytest.param('compiled', marks=needs_library), 'reference']
NAMES = ('value', 'reference_points', 'sampling_offsets', 'attention_logits')
FORMS = [(2, False), (2, True), (4, False), (4, True)]
"""Coordinates of the reference points, and whether all levels share them."""


class FusedOperands(NamedTuple):
    value: torch.Tensor
    spatial_shapes: torch.Tensor
    level_start_index: torch.Tensor
    reference_points: torch.Tensor
    sampling_offsets: torch.Tensor
    attention_logits: torch.Tensor

    @property
    def levels(self):
        starts = self.level_start_index.tolist()
        sizes = self.spatial_shapes.tolist()
        return [Level(h, w, start) for (h, w), start in zip(sizes, starts, strict=True)]

    @property
    def tensors(self):
        """The operands that have gradients."""
        return tuple(getattr(self, name) for name in NAMES)

    def with_tensors(self, tensors):
        return self._replace(**dict(zip(NAMES, tensors, strict=True)))

    def to(self, value_dtype, *points_dtypes):
        """Dtypes of the value and of the three others; one for all others, or none given."""
        points_dtypes = points_dtypes or (value_dtype,)
        dtypes = (value_dtype, *points_dtypes * (3 // len(points_dtypes)))
        return self.with_tensors(t.to(d) for t, d in zip(self.tensors, dtypes, strict=True))

    def requires_grad(self):
        return self.with_tensors(t.detach().requires_grad_() for t in self.tensors)


def make_operands(
    shapes=((5, 7), (3, 4), (1, 1)),
    images=2,
    queries=6,
    heads=3,
    channels=5,
    points=4,
    coordinates=2,
    shared=False,
    dtype=torch.float64,
    seed=0,
):
    """Random operands; points reach a little beyond the levels."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    shapes = torch.tensor(shapes, dtype=torch.int64).view(-1, 2)
    levels = len(shapes)
    value = normal(images, int(shapes.prod(1).sum()), heads, channels)
    reference = torch.rand(
        images,
        queries,
        1 if shared else levels,
        coordinates,
        generator=generator,
        dtype=torch.float64,
    )
    pixels = 2 if coordinates == 2 else points
    offsets = normal(images, queries, heads, levels, points, 2) * pixels
    logits = normal(images, queries, heads, levels, points) * 2
    starts = start_index(shapes)
    return FusedOperands(value, shapes, starts, reference, offsets, logits).to(dtype)


def grad_like_output(operands, seed=1):
    b, _, m, c = operands.value.shape
    generator = torch.Generator().manual_seed(seed)
    shape = (b, operands.sampling_offsets.shape[1], m * c)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(operands.value.dtype)


def locations_and_weights(operands):
    """The definition of what the fused operator saves its callers."""
    _, shapes, _, reference, offsets, logits = operands
    points = offsets.shape[4]
    reference = reference[:, :, None, :, None]
    if reference.shape[-1] == 2:
        locations = reference + offsets / shapes.flip(1).to(offsets)[:, None]
    else:
        locations = reference[..., :2] + offsets / points * reference[..., 2:] / 2
    return locations, logits.flatten(3).softmax(-1).view(logits.shape)


def definition(operands):
    """Softmax, locations and ms_deform_attn one after the other."""
    locations, weights = locations_and_weights(operands)
    return ms_deform_attn(*operands[:3], locations, weights)


def run_forward(backend, operands):
    if backend == 'reference':
        value, _, _, *points = operands
        return fused_forward(value, operands.levels, *points)
    return torch.ops.isda_suite.ms_deform_attn_fused(*operands)


def run_backward(backend, operands, grad_output, mask=(True,) * 4):
    if backend == 'reference':
        value, _, _, *points = operands
        return fused_backward(grad_output, value, operands.levels, *points)
    operator = torch.ops.isda_suite.ms_deform_attn_fused_backward
    return operator(grad_output, *operands, list(mask))


def run(backend, operands, grad_output=None):
    """Output and the four gradients."""
    grad_output = grad_like_output(operands) if grad_output is None else grad_output
    return run_forward(backend, operands), *run_backward(backend, operands, grad_output)
