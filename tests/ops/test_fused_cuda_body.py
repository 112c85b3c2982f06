"""The bodies of the fused operator's CUDA kernels, run serially in blocks of every size.

As in test_cuda_body.py the host watches the shared memory, so a missing barrier is an error.
"""

import pytest
import torch

from tests.ops.fused_operands import FORMS, grad_like_output, make_operands, run, run_backward
from tests.ops.operands import needs_library, norm_error

pytestmark = needs_library
INF = float('inf')
# Threads of a block, bytes of shared memory for its points, blocks of the grid.
LIMITS = [(32, 256, 1), (32, 2000, 7), (64, 4096, 3), (96, 1024, 2), (256, 16384, 10**6)]
BOUNDS = {torch.float32: 5e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 8e-3}


def _on_host(operands, limits=LIMITS[2], deterministic=False, mask=(True,) * 4):
    o, grad = torch.ops.isda_suite, grad_like_output(operands)
    output = o._ms_deform_attn_fused_cuda_body_on_host(*operands, limits)
    backward = o._ms_deform_attn_fused_backward_cuda_body_on_host
    return output, *backward(grad, *operands, list(mask), deterministic, limits)


def _check(operands, limits, dtype):
    exact = run('reference', operands.to(torch.float64), grad_like_output(operands).double())
    for actual, expected in zip(_on_host(operands, limits), exact, strict=True):
        assert norm_error(actual, expected) < BOUNDS[dtype]


@pytest.mark.parametrize('limits', LIMITS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('dtype', list(BOUNDS))
def test_blocks_that_end_anywhere_agree_with_the_reference(limits, coordinates, shared, dtype):
    operands = make_operands(
        images=3, queries=5, heads=8, channels=48, points=3, coordinates=coordinates, shared=shared
    )
    half = dtype in (torch.float16, torch.bfloat16)
    _check(operands.to(dtype, torch.float32 if half else dtype), limits, dtype)


@pytest.mark.parametrize('channels', [1, 2, 7, 12, 32, 100])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('limits', LIMITS[1:4])
def test_groups_of_any_size_agree_with_the_reference(channels, dtype, limits):
    operands = make_operands(channels=channels, coordinates=4)
    _check(operands.to(dtype, torch.float32), limits, dtype)


@pytest.mark.parametrize('limits', LIMITS[1:])
@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_many_levels_and_points(limits, coordinates, shared):
    """222 points in several runs: sums over points and levels go across them."""
    shapes = [(3, 4)] * 36 + [(8, 20)]
    operands = make_operands(shapes, 1, 2, 2, 48, 6, coordinates, shared, torch.float32)
    _check(operands, limits, torch.float32)


@pytest.mark.parametrize('deterministic', [False, True])
def test_sixteen_bit_logits_lose_nothing_between_the_runs(deterministic):
    """The gradient of the softmax waits for the sum over all points in single precision."""
    shapes = [(3, 4)] * 20
    operands = make_operands(shapes, 1, 3, 2, 8, 6).to(torch.bfloat16)
    exact = run('reference', operands.to(torch.float64), grad_like_output(operands).double())
    results = _on_host(operands, LIMITS[1], deterministic)
    for actual, expected in zip(results, exact, strict=True):
        assert norm_error(actual, expected) < BOUNDS[torch.bfloat16]


def test_the_size_of_blocks_changes_no_bit_of_what_is_not_a_sum_over_points():
    operands = make_operands(queries=7, heads=8, channels=48, points=5, dtype=torch.float32)
    first, *others = (_on_host(operands, limits, True) for limits in LIMITS[1:])
    for other in others:
        # Output, gradients of the value (a sum in integers) and of the offsets.
        assert all(torch.equal(first[i], other[i]) for i in (0, 1, 3))


@pytest.mark.parametrize('wanted', range(4))
def test_only_the_gradients_asked_for_are_computed(wanted):
    operands = make_operands(coordinates=4, dtype=torch.float32)
    mask = [i == wanted for i in range(4)]
    complete, part = _on_host(operands)[1:], _on_host(operands, mask=mask)[1:]
    assert torch.equal(part[wanted], complete[wanted])
    assert [t.numel() == 0 for t in part] == [not m for m in mask]


@pytest.mark.parametrize('channels', [4, 48])
def test_a_lane_without_a_finite_logit_has_no_say(channels):
    operands = make_operands(channels=channels, dtype=torch.float32)
    logits = operands.attention_logits.clone()
    logits[:, :, :, 1:] = -INF
    logits[:, :, :, 0, :3] = -INF
    some = operands._replace(attention_logits=logits)
    for actual, expected in zip(_on_host(some), run('reference', some), strict=True):
        assert norm_error(actual, expected) < 5e-6
    nothing = operands._replace(attention_logits=torch.full_like(logits, -INF))
    assert _on_host(nothing)[0].isnan().all() == run('reference', nothing)[0].isnan().all()


def test_points_outside_have_gradients_of_exactly_zero():
    """Also where the offset is infinite and multiplied by what is zero."""
    operands = make_operands(coordinates=4, dtype=torch.float32)
    offsets = operands.sampling_offsets.clone()
    offsets[..., 0] = INF
    outside = operands._replace(sampling_offsets=offsets)
    for tensor in _on_host(outside):
        assert torch.equal(tensor, torch.zeros_like(tensor))


def test_the_default_blocks_are_those_of_the_operator_for_tests():
    operands = make_operands(dtype=torch.float32)
    for actual, expected in zip(
        run_backward('cuda_body', operands, grad_like_output(operands)),
        _on_host(operands)[1:],
        strict=True,
    ):
        assert torch.equal(actual, expected)
