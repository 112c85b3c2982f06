"""torch.vmap: the mapped axis joins the batch; every result is that of a loop over examples."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn
from tests.ops.operands import grad_like_output, make_operands

pytestmark = pytest.mark.skipif(
    not hasattr(torch.library, 'register_vmap'), reason='torch before 2.5 has no rules for vmap'
)
EXAMPLES = 3
SAMPLES = [make_operands(queries=4, seed=seed) for seed in range(EXAMPLES)]
SHAPES, STARTS = SAMPLES[0].spatial_shapes, SAMPLES[0].level_start_index


def _mapped(name, axis=0):
    return torch.stack([getattr(sample, name) for sample in SAMPLES], axis)


def _overload(kind):
    if kind == 'list':
        return lambda v, x, a: ms_deform_attn(v, SHAPES.tolist(), None, x, a)
    return lambda v, x, a: ms_deform_attn(v, SHAPES, STARTS, x, a)


def _operands(axes):
    """The three operands, each mapped over its axis, or the first example's for ``None``."""
    names = ('value', 'sampling_locations', 'attention_weights')
    return tuple(
        getattr(SAMPLES[0], name) if axis is None else _mapped(name, axis)
        for name, axis in zip(names, axes, strict=True)
    )


def _loop(call, operands, axes):
    """What vmap means."""
    results = []
    for i in range(EXAMPLES):
        parts = [t if a is None else t.select(a, i) for t, a in zip(operands, axes, strict=True)]
        results.append(call(*parts))
    return results


AXES = [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0), (4, 6, 2), (1, None, 5)]


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('axes', AXES)
def test_output_is_that_of_a_loop(overload, axes):
    call, operands = _overload(overload), _operands(axes)
    found = torch.vmap(call, in_dims=axes)(*operands)
    assert torch.equal(found, torch.stack(_loop(call, operands, axes)))


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('axes', AXES)
def test_gradients_of_every_example_are_those_of_a_loop(overload, axes):
    """Per-example gradients; of an operand that is shared, one for every example too."""
    operator, operands = _overload(overload), _operands(axes)
    grad = grad_like_output(SAMPLES[0])
    call = torch.func.grad(lambda *operands: (operator(*operands) * grad).sum(), (0, 1, 2))
    found = torch.vmap(call, in_dims=axes)(*operands)
    expected = zip(*_loop(call, operands, axes), strict=True)
    for actual, parts in zip(found, expected, strict=True):
        assert torch.equal(actual, torch.stack(parts))


@pytest.mark.parametrize('overload', ['default', 'list'])
def test_gradient_through_a_mapped_call(overload):
    """The other order: vmap inside, the derivative outside; a shared value sums its gradients."""
    axes = (None, 0, 0)
    call, operands = _overload(overload), _operands(axes)

    def total(value):
        return torch.vmap(call, in_dims=axes)(value, *operands[1:]).square().sum()

    def looped(value):
        return torch.stack(_loop(call, (value, *operands[1:]), axes)).square().sum()

    torch.testing.assert_close(
        torch.func.grad(total)(operands[0]), torch.func.grad(looped)(operands[0])
    )


def test_only_the_gradients_asked_for_are_computed_under_vmap():
    operands = _operands((0, 0, 0))
    grad = torch.stack([grad_like_output(sample) for sample in SAMPLES])
    backward = torch.ops.isda_suite.ms_deform_attn_backward

    def call(grad, value, locations, weights):
        mask = [False, True, False]
        return backward(grad, value, SHAPES, STARTS, locations, weights, mask)[1]

    expected = [
        backward(g, *sample, [True] * 3)[1] for g, sample in zip(grad, SAMPLES, strict=True)
    ]
    assert torch.equal(torch.vmap(call)(grad, *operands), torch.stack(expected))


def test_nested_maps_and_a_batch_without_images():
    operands = _operands((0, 0, 0))
    call = _overload('default')
    nested = torch.vmap(torch.vmap(call))(*(t.unsqueeze(0) for t in operands))
    assert torch.equal(nested[0], torch.vmap(call)(*operands))
    empty = torch.vmap(call)(*(t[:, :0] for t in operands))
    assert empty.shape == (EXAMPLES, 0, 4, 15)


@pytest.mark.parametrize('name', ['spatial_shapes', 'level_start_index'])
@pytest.mark.parametrize('operator', ['forward', 'backward'])
def test_mapped_tables_are_refused_by_name(name, operator):
    sample = SAMPLES[0]
    at = sample._fields.index(name)
    tables = torch.stack([sample[at]] * EXAMPLES)
    grad = grad_like_output(sample)

    def call(table):
        operands = (*sample[:at], table, *sample[at + 1 :])
        if operator == 'forward':
            return ms_deform_attn(*operands)
        backward = torch.ops.isda_suite.ms_deform_attn_backward
        return backward(grad, *operands, [True] * 3)

    with pytest.raises(ValueError, match=f'^{name}: expected the same levels for every example'):
        torch.vmap(call)(tables)


def test_second_derivatives_by_nested_transforms():
    """The Hessian along one operand, by torch.func alone and by autograd alone."""
    sample = make_operands(((3, 4),), 1, 2, 1, 2, 2)

    def loss(value, weights):
        return (
            ms_deform_attn(value, [(3, 4)], None, sample.sampling_locations, weights).pow(3).sum()
        )

    operands = (sample.value, sample.attention_weights)
    nested = torch.func.jacrev(torch.func.grad(loss))(*operands)
    plain = torch.autograd.functional.hessian(lambda v: loss(v, operands[1]), operands[0])
    torch.testing.assert_close(nested, plain)
