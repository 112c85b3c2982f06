"""torch.vmap and torch.func on the fused operator: every result is that of a loop."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn_fused
from tests.ops.fused_operands import NAMES, grad_like_output, make_operands

pytestmark = pytest.mark.skipif(
    not hasattr(torch.library, 'register_vmap'), reason='torch before 2.5 has no rules for vmap'
)
EXAMPLES = 3
SAMPLES = [make_operands(queries=4, coordinates=4, seed=seed) for seed in range(EXAMPLES)]
SHAPES, STARTS = SAMPLES[0].spatial_shapes, SAMPLES[0].level_start_index
AXES = [
    (0, 0, 0, 0),
    (0, None, None, None),
    (None, 0, None, None),
    (None, None, 0, None),
    (None, None, None, 0),
    (4, 2, 6, 5),
    (1, None, None, 3),
]


def _overload(kind):
    if kind == 'list':
        return lambda v, *points: ms_deform_attn_fused(v, SHAPES.tolist(), None, *points)
    return lambda v, *points: ms_deform_attn_fused(v, SHAPES, STARTS, *points)


def _operands(axes):
    """The four operands, each mapped over its axis, or the first example's for ``None``."""
    return tuple(
        getattr(SAMPLES[0], name)
        if axis is None
        else torch.stack([getattr(sample, name) for sample in SAMPLES], axis)
        for name, axis in zip(NAMES, axes, strict=True)
    )


def _loop(call, operands, axes):
    """What vmap means."""
    results = []
    for i in range(EXAMPLES):
        parts = [t if a is None else t.select(a, i) for t, a in zip(operands, axes, strict=True)]
        results.append(call(*parts))
    return results


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('axes', AXES)
def test_output_is_that_of_a_loop(overload, axes):
    call, operands = _overload(overload), _operands(axes)
    found = torch.vmap(call, in_dims=axes)(*operands)
    assert torch.equal(found, torch.stack(_loop(call, operands, axes)))


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('axes', AXES)
def test_gradients_of_every_example_are_those_of_a_loop(overload, axes):
    operator, operands = _overload(overload), _operands(axes)
    grad = grad_like_output(SAMPLES[0])
    call = torch.func.grad(lambda *operands: (operator(*operands) * grad).sum(), (0, 1, 2, 3))
    found = torch.vmap(call, in_dims=axes)(*operands)
    expected = zip(*_loop(call, operands, axes), strict=True)
    for actual, parts in zip(found, expected, strict=True):
        assert torch.equal(actual, torch.stack(parts))


def test_only_the_gradients_asked_for_are_computed_under_vmap():
    operands = _operands((0, 0, 0, 0))
    grad = torch.stack([grad_like_output(sample) for sample in SAMPLES])
    backward = torch.ops.isda_suite.ms_deform_attn_fused_backward

    def call(grad, value, *points):
        return backward(grad, value, SHAPES, STARTS, *points, [False, True, False, False])[1]

    expected = [
        backward(g, *sample, [True] * 4)[1] for g, sample in zip(grad, SAMPLES, strict=True)
    ]
    assert torch.equal(torch.vmap(call)(grad, *operands), torch.stack(expected))


@pytest.mark.parametrize('name', ['spatial_shapes', 'level_start_index'])
@pytest.mark.parametrize('operator', ['forward', 'backward'])
def test_mapped_tables_are_refused_by_name(name, operator):
    sample = SAMPLES[0]
    tables = torch.stack([getattr(sample, name)] * EXAMPLES)
    grad = grad_like_output(sample)

    def call(table):
        operands = sample._replace(**{name: table})
        if operator == 'forward':
            return ms_deform_attn_fused(*operands)
        return torch.ops.isda_suite.ms_deform_attn_fused_backward(grad, *operands, [True] * 4)

    with pytest.raises(ValueError, match=f'^{name}: expected the same levels for every example'):
        torch.vmap(call)(tables)


def test_second_derivatives_by_nested_transforms():
    """The Hessian along two operands, by torch.func alone and by autograd alone."""
    sample = make_operands(((3, 4),), 1, 2, 1, 2, 2)

    def loss(reference, logits):
        out = ms_deform_attn_fused(
            sample.value, [(3, 4)], None, reference, sample.sampling_offsets, logits
        )
        return out.pow(3).sum()

    operands = (sample.reference_points, sample.attention_logits)
    nested = torch.func.jacrev(torch.func.grad(loss))(*operands)
    plain = torch.autograd.functional.hessian(lambda r: loss(r, operands[1]), operands[0])
    torch.testing.assert_close(nested, plain)
