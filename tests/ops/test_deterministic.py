"""Deterministic sums of the CUDA backward, by the body of its kernel compiled for the host.

Integers are added in any order to the same sum, so here the order of the queries stands for the
order in which blocks of threads happen to run. The kernel itself runs in test_cuda.py.
"""

import pytest
import torch

from tests.ops.operands import grad_like_output, make_operands, needs_library, norm_error, run

pytestmark = needs_library
NAN, INF = float('nan'), float('inf')


def _backward(operands, grad, deterministic=True, mask=(True, True, True)):
    operator = torch.ops.isda_suite._ms_deform_attn_backward_cuda_body_on_host
    return operator(grad, *operands, list(mask), deterministic)


def _case(dtype=torch.float32, **arguments):
    arguments = {'queries': 200, 'heads': 2, 'channels': 8, **arguments}
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(**arguments).to(dtype, torch.float32 if half else dtype)
    return operands, grad_like_output(operands)


def _in_another_order(operands, grad):
    order = torch.randperm(grad.shape[1], generator=torch.Generator().manual_seed(5))
    shuffled = operands._replace(
        sampling_locations=operands.sampling_locations[:, order],
        attention_weights=operands.attention_weights[:, order],
    )
    return shuffled, grad[:, order]


def test_the_order_of_additions_changes_no_bit():
    operands, grad = _case()
    shuffled = _in_another_order(operands, grad)
    assert torch.equal(_backward(operands, grad)[0], _backward(*shuffled)[0])
    # Without it the bits do change, or this test would show nothing.
    plain = (_backward(*case, deterministic=False)[0] for case in ((operands, grad), shuffled))
    assert not torch.equal(*plain)


@pytest.mark.parametrize(
    'dtype, bound',
    [
        (torch.float32, 1e-6),
        (torch.float64, 1e-12),
        (torch.float16, 2e-3),
        (torch.bfloat16, 8e-3),
    ],
)
def test_gradients_are_the_references(dtype, bound):
    operands, grad = _case(dtype)
    expected = run('reference', operands.to(torch.float64), grad.double())[1:]
    for actual, exact in zip(_backward(operands, grad), expected, strict=True):
        assert norm_error(actual, exact) < bound


@pytest.mark.parametrize('scale', [1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_the_units_follow_the_size_of_the_gradient(scale):
    operands, grad = _case()
    expected = _backward(operands, grad)[0].double() * scale
    assert norm_error(_backward(operands, grad * scale)[0], expected) < 1e-6


@pytest.mark.parametrize('scale', [1e-280, 1e-200, 1e290])
def test_extreme_doubles_neither_overflow_nor_vanish(scale):
    operands, grad = _case(torch.float64, queries=20)
    grad = grad.clamp(-2, 2)
    expected = _backward(operands, grad * scale, deterministic=False)[0]
    found = _backward(operands, grad * scale)[0]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=float(expected.abs().max()) * 1e-11)


def test_largest_possible_sums_do_not_wrap_around():
    """Every contribution is as large as the bound, and all go to one element."""
    operands, _ = _case(queries=1000, shapes=((1, 1),), points=8, images=1)
    operands = operands.with_locations(torch.full_like(operands.sampling_locations, 0.5))
    operands = operands._replace(attention_weights=torch.ones_like(operands.attention_weights))
    grad = torch.full((1, 1000, 16), 1.9999)
    found = _backward(operands, grad)[0]
    torch.testing.assert_close(found, torch.full_like(found, 8000 * 1.9999))


@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_numbers_that_are_not_finite_stay_where_they_belong(bad):
    operands, grad = _case()
    clean = _backward(operands, grad)[0]
    grad = grad.clone()
    grad[0, 3, 2] = bad
    found, expected = (_backward(operands, grad, kind)[0] for kind in (True, False))
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())
    touched = ~expected.isfinite()
    assert touched.any() and torch.equal(found[~touched], clean[~touched])
    shuffled = _backward(*_in_another_order(operands, grad))[0]
    assert torch.equal(found.nan_to_num(), shuffled.nan_to_num())


def test_no_gradient_and_no_point():
    operands, grad = _case()
    for gradient in _backward(operands, torch.zeros_like(grad)):
        assert not gradient.any()
    empty, grad = _case(queries=0)
    assert not _backward(empty, grad)[0].any()


def test_only_the_gradient_of_value_needs_it():
    operands, grad = _case()
    plain = _backward(operands, grad, deterministic=False)
    found = _backward(operands, grad, mask=(False, True, True))
    assert found[0].numel() == 0
    assert torch.equal(found[1], plain[1]) and torch.equal(found[2], plain[2])
