"""Every backend computes the definition; gradients are those of the definition."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn
from tests.ops.operands import (
    BACKENDS,
    make_operands,
    needs_library,
    norm_error,
    run,
    run_forward,
    slow_loop,
)


@pytest.mark.parametrize('backend', BACKENDS)
def test_output_is_the_slow_loops(backend):
    operands = make_operands(queries=4)
    torch.testing.assert_close(
        run_forward(backend, operands), slow_loop(operands), rtol=1e-12, atol=1e-12
    )


# Channel counts on both sides of every register width; points beyond one chunk of 256.
@pytest.mark.parametrize('channels', [1, 3, 8, 16, 20, 32, 48, 64, 100])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('backend', BACKENDS[:2])
def test_kernels_agree_with_the_reference(backend, dtype, channels):
    operands = make_operands(channels=channels, queries=3, heads=2, dtype=dtype)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    for actual, expected in zip(run(backend, operands), run('reference', operands), strict=True):
        assert actual.dtype == dtype
        assert norm_error(actual, expected) < tolerance


@needs_library
def test_more_points_than_fit_one_chunk():
    shapes = [(3, 4)] * 36 + [(8, 20)]
    operands = make_operands(shapes, images=1, queries=2, heads=2, channels=48, points=8)
    for actual, expected in zip(run('compiled', operands), run('reference', operands), strict=True):
        assert norm_error(actual, expected) < 1e-13


def _all_gradients(operands):
    operands = operands.requires_grad()
    value, shapes, starts, locations, weights = operands

    def call(value, locations, weights):
        return ms_deform_attn(value, shapes, starts, locations, weights)

    return call, (value, locations, weights)


def test_gradcheck():
    operands = make_operands(((4, 5), (2, 3)), images=1, queries=2, heads=2, channels=3, points=2)
    call, inputs = _all_gradients(operands)
    assert torch.autograd.gradcheck(call, inputs, eps=1e-6, atol=1e-6)


def test_second_derivatives():
    operands = make_operands(((4, 5),), images=1, queries=2, heads=1, channels=2, points=2)
    call, inputs = _all_gradients(operands)
    assert torch.autograd.gradgradcheck(call, inputs, eps=1e-6, atol=1e-5)


def test_list_of_sizes_is_the_same_operator():
    operands = make_operands().requires_grad()
    value, shapes, starts, locations, weights = operands
    by_table = ms_deform_attn(value, shapes, starts, locations, weights)
    by_list = ms_deform_attn(value, shapes.tolist(), None, locations, weights)
    assert torch.equal(by_table, by_list)
    inputs = (value, locations, weights)
    for a, b in zip(
        torch.autograd.grad(by_table.sum(), inputs),
        torch.autograd.grad(by_list.sum(), inputs),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_missing_start_index_means_one_after_the_other():
    value, shapes, starts, locations, weights = make_operands()
    expected = ms_deform_attn(value, shapes, starts, locations, weights)
    assert torch.equal(ms_deform_attn(value, shapes, None, locations, weights), expected)


def test_only_the_gradients_asked_for_are_computed():
    operands = make_operands()
    grad = torch.ones_like(run_forward('reference', operands))
    operator = torch.ops.isda_suite.ms_deform_attn_backward
    complete = operator(grad, *operands, [True, True, True])
    for wanted in range(3):
        mask = [i == wanted for i in range(3)]
        part = operator(grad, *operands, mask)
        assert torch.equal(part[wanted], complete[wanted])
        assert [t.numel() == 0 for t in part] == [not m for m in mask]
