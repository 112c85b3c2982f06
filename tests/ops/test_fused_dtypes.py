"""The fused operator in half and mixed precision, under autocast, and with strides."""

import itertools

import pytest
import torch

from isda_suite.ops import ms_deform_attn_fused
from tests.ops.fused_operands import (
    BACKENDS,
    FORMS,
    grad_like_output,
    make_operands,
    run,
    run_forward,
)
from tests.ops.operands import needs_library, norm_error

BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 8e-3}
HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('wide', list(itertools.product([False, True], repeat=3)))
def test_sixteen_bits_cost_one_rounding(backend, coordinates, shared, dtype, wide):
    """Every operand beside the value is 16 or 32 bits wide on its own."""
    dtypes = [torch.float32 if w else dtype for w in wide]
    operands = make_operands(channels=20, coordinates=coordinates, shared=shared)
    operands = operands.to(dtype, *dtypes)
    grad = grad_like_output(operands)
    exact = run('reference', operands.to(torch.float64), grad.double())
    results = run(backend, operands, grad)
    assert [t.dtype for t in results] == [dtype, dtype, *dtypes]
    for actual, expected in zip(results, exact, strict=True):
        assert norm_error(actual, expected) < BOUNDS[dtype]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates', [2, 4])
def test_single_precision_keeps_its_digits(backend, coordinates):
    operands = make_operands(queries=40, channels=32, coordinates=coordinates, dtype=torch.float32)
    exact = run('reference', operands.to(torch.float64))
    for i, (actual, expected) in enumerate(zip(run(backend, operands), exact, strict=True)):
        assert norm_error(actual, expected) < (1e-5 if i == 0 else 2e-5)


@pytest.mark.parametrize('backend', BACKENDS)
def test_strides_of_the_operands_do_not_matter(backend):
    operands = make_operands(channels=8, coordinates=4)
    value, _, _, reference, offsets, logits = operands
    strided = operands._replace(
        value=torch.stack([value, value], 2)[:, :, 0],
        reference_points=reference.transpose(1, 3).contiguous().transpose(1, 3),
        sampling_offsets=offsets.transpose(1, 2).contiguous().transpose(1, 2),
        attention_logits=torch.stack([logits, logits], -1)[..., 0],
    )
    assert not any(tensor.is_contiguous() for tensor in strided.tensors)
    grad = grad_like_output(operands)
    strided_grad = torch.stack([grad, grad], -1)[..., 0]
    for actual, expected in zip(
        run(backend, strided, strided_grad), run(backend, operands, grad), strict=True
    ):
        assert torch.equal(actual, expected)
        assert actual.is_contiguous()
    channels_apart = operands._replace(value=value.transpose(1, 3).contiguous().transpose(1, 3))
    assert torch.equal(run_forward(backend, channels_apart), run_forward(backend, operands))
    expanded = operands._replace(reference_points=reference[:, :, :1].expand(reference.shape))
    same = operands._replace(reference_points=reference[:, :, :1])
    assert torch.equal(run_forward(backend, expanded), run_forward(backend, same))


@needs_library
def test_a_value_larger_than_memory_is_addressed_with_64_bits():
    """A stride-0 view of 2^31 elements and more; offsets of 32 bits would wrap around."""
    row = torch.randn(1, 1, 1, 1024)
    side = 2048
    value = row.expand(1, side * side, 1, 1024)
    assert value.numel() > 2**31
    reference = torch.rand(1, 5, 1, 2) * 0.8 + 0.1
    offsets, logits = torch.randn(1, 5, 1, 1, 4, 2), torch.randn(1, 5, 1, 1, 4)
    out = ms_deform_attn_fused(value, [(side, side)], None, reference, offsets, logits)
    torch.testing.assert_close(out, row.view(1, 1, 1024).expand(out.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('value_dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('points_dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_accepts_every_mixture(value_dtype, points_dtype):
    operands = make_operands().to(value_dtype, points_dtype).requires_grad()
    value, shapes, _, *points = operands
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = ms_deform_attn_fused(*operands)
        by_list = ms_deform_attn_fused(value, shapes.tolist(), None, *points)
    assert out.dtype == value_dtype
    assert torch.equal(out, by_list)
    out.sum().backward()
    assert [t.grad.dtype for t in operands.tensors] == [value_dtype, *[points_dtype] * 3]


def test_autocast_rounds_nothing():
    operands = make_operands(dtype=torch.float32)
    expected = ms_deform_attn_fused(*operands)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(ms_deform_attn_fused(*operands), expected)


def test_autocast_leaves_raw_projections_in_sixteen_bits():
    """What linear layers give under autocast goes in as it is, without a copy in 32 bits."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        seen = None

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if 'ms_deform_attn_fused' in str(function):
                self.seen = [t.dtype for t in args if isinstance(t, torch.Tensor)]
            return function(*args, **(kwargs or {}))

    operands = make_operands().to(torch.bfloat16)
    value, shapes, _, *points = operands
    with torch.autocast('cpu', dtype=torch.bfloat16), Watch() as watch:
        ms_deform_attn_fused(value, shapes.tolist(), None, *points)
    assert watch.seen == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
