"""The fused operator is softmax, locations and ms_deform_attn; gradients are those of that."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn_fused
from tests.ops.fused_operands import (
    BACKENDS,
    FORMS,
    definition,
    grad_like_output,
    make_operands,
    run,
    run_backward,
    run_forward,
)
from tests.ops.operands import needs_library, norm_error


def _by_definition(operands):
    """Output and gradients by autograd through the definition."""
    operands = operands.requires_grad()
    output = definition(operands)
    gradients = torch.autograd.grad(output, operands.tensors, grad_like_output(operands))
    return output.detach(), *gradients


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_it_is_softmax_locations_and_sampling(backend, coordinates, shared):
    operands = make_operands(coordinates=coordinates, shared=shared)
    expected = _by_definition(operands)
    for actual, exact in zip(run(backend, operands), expected, strict=True):
        torch.testing.assert_close(actual, exact, rtol=1e-11, atol=1e-11)


# Channel counts on both sides of every register width.
@pytest.mark.parametrize('channels', [1, 3, 8, 20, 32, 48, 64, 100])
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@needs_library
def test_kernels_agree_with_the_reference(dtype, coordinates, shared, channels):
    operands = make_operands(
        channels=channels,
        queries=3,
        heads=2,
        coordinates=coordinates,
        shared=shared,
        dtype=dtype,
    )
    tolerance = 4e-6 if dtype == torch.float32 else 1e-13
    for actual, expected in zip(run('compiled', operands), run('reference', operands), strict=True):
        assert actual.dtype == dtype
        assert norm_error(actual, expected) < tolerance


# One, fewer than a group of 16, 222 as DefVisTR has, and more than one chunk of 256.
@pytest.mark.parametrize('levels, points', [(1, 1), (3, 5), (37, 6), (37, 8), (2, 300)])
@pytest.mark.parametrize('coordinates', [2, 4])
@needs_library
def test_any_number_of_levels_and_points(levels, points, coordinates):
    shapes = [(3, 4)] * (levels - 1) + [(8, 20)]
    operands = make_operands(shapes, 1, 2, 2, 48, points, coordinates)
    for actual, expected in zip(run('compiled', operands), run('reference', operands), strict=True):
        assert norm_error(actual, expected) < 1e-13


def _call(shapes, starts):
    def call(value, reference, offsets, logits):
        return ms_deform_attn_fused(value, shapes, starts, reference, offsets, logits)

    return call


@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_gradcheck(coordinates, shared):
    operands = make_operands(
        ((4, 5), (2, 3)), 1, 2, 2, 3, 2, coordinates, shared, seed=3
    ).requires_grad()
    call = _call(*operands[1:3])
    assert torch.autograd.gradcheck(call, operands.tensors, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_second_derivatives(coordinates, shared):
    operands = make_operands(
        ((4, 5), (3, 2)), 1, 2, 1, 2, 2, coordinates, shared, seed=1
    ).requires_grad()
    call = _call(*operands[1:3])
    assert torch.autograd.gradgradcheck(call, operands.tensors, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_list_of_sizes_is_the_same_operator(coordinates, shared):
    operands = make_operands(coordinates=coordinates, shared=shared).requires_grad()
    value, shapes, starts, *points = operands
    by_table = ms_deform_attn_fused(value, shapes, starts, *points)
    by_list = ms_deform_attn_fused(value, shapes.tolist(), None, *points)
    assert torch.equal(by_table, by_list)
    for a, b in zip(
        torch.autograd.grad(by_table.sum(), operands.tensors),
        torch.autograd.grad(by_list.sum(), operands.tensors),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_missing_start_index_means_one_after_the_other():
    value, shapes, starts, *points = make_operands()
    expected = ms_deform_attn_fused(value, shapes, starts, *points)
    assert torch.equal(ms_deform_attn_fused(value, shapes, None, *points), expected)


@pytest.mark.parametrize('coordinates', [2, 4])
def test_only_the_gradients_asked_for_are_computed(coordinates):
    operands = make_operands(coordinates=coordinates)
    grad = grad_like_output(operands)
    complete = run_backward('compiled', operands, grad)
    for wanted in range(4):
        mask = [i == wanted for i in range(4)]
        part = run_backward('compiled', operands, grad, mask)
        assert torch.equal(part[wanted], complete[wanted])
        assert [t.numel() == 0 for t in part] == [not m for m in mask]


@pytest.mark.parametrize('backend', BACKENDS)
def test_logits_may_be_moved_by_any_number(backend):
    """The largest one is taken off first, so no exponential overflows."""
    operands = make_operands(dtype=torch.float32)
    moved = operands._replace(attention_logits=operands.attention_logits + 1e4)
    found = run_forward(backend, moved)
    rounded = operands._replace(attention_logits=moved.attention_logits - 1e4)
    torch.testing.assert_close(found, run_forward(backend, rounded), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_weights_are_those_of_torch_to_the_last_bits(backend, dtype):
    """A value of ones at one pixel gives the weight itself; logits span what a dtype can tell."""
    spread = 100 if dtype == torch.float32 else 800
    logits = torch.linspace(-spread, 0, 64, dtype=torch.float64).to(dtype).view(1, 1, 1, 64, 1)
    value = torch.eye(64, dtype=dtype).view(1, 64, 1, 64)
    shapes = torch.ones(64, 2, dtype=torch.int64)
    operands = (
        torch.full((1, 1, 1, 2), 0.5, dtype=dtype),
        torch.zeros(1, 1, 1, 64, 1, 2, dtype=dtype),
        logits,
    )
    sample = make_operands()._replace(
        value=value, spatial_shapes=shapes, level_start_index=torch.arange(64)
    )
    found = run_forward(backend, sample.with_tensors((value, *operands))).flatten()
    exact = logits.double().flatten().softmax(0)
    smallest = 2 * torch.finfo(dtype).tiny ** 0.98
    torch.testing.assert_close(
        found.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=smallest
    )
