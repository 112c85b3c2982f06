"""Half precision, mixed precision, autocast and operands that are not contiguous."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn
from tests.ops.operands import (
    BACKENDS,
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run,
)

BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 8e-3}
HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('channels', [5, 32, 48])
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('points_dtype', ['float32', 'same'])
def test_sixteen_bits_cost_one_rounding(backend, dtype, channels, points_dtype):
    points_dtype = torch.float32 if points_dtype == 'float32' else dtype
    operands = make_operands(channels=channels).to(dtype, points_dtype)
    grad = grad_like_output(operands)
    exact = run('reference', operands.to(torch.float64), grad.double())
    results = run(backend, operands, grad)
    assert [t.dtype for t in results] == [dtype, dtype, points_dtype, points_dtype]
    for actual, expected in zip(results, exact, strict=True):
        assert norm_error(actual, expected) < BOUNDS[dtype]


@needs_library
@pytest.mark.parametrize('dtype', HALVES)
def test_every_sixteen_bit_number_survives(dtype):
    """One pixel with weight one: the output is the value, so every bit pattern must come back."""
    bits = torch.arange(-(2**15), 2**15).to(torch.int16).view(1, 64, 1, 1024)
    value = bits.view(dtype)
    locations = torch.full((1, 64, 1, 1, 1, 2), 0.5)
    locations[..., 1] = ((torch.arange(64) + 0.5) / 64).view(1, 64, 1, 1, 1)
    weights = torch.ones(1, 64, 1, 1, 1)
    operator = torch.ops.isda_suite
    shapes, starts = torch.tensor([[64, 1]]), torch.tensor([0])
    finite = value.clone()
    finite[~value.isfinite()] = 0
    for isa in _usable_variants():
        before = operator._use_cpu_isa(isa)
        out = ms_deform_attn(finite, shapes, starts, locations, weights)
        operator._use_cpu_isa(before)
        assert torch.equal(out, finite.view(1, 64, 1024)), isa
    on_host = operator._ms_deform_attn_cuda_body_on_host(finite, shapes, starts, locations, weights)
    assert torch.equal(on_host, finite.view(1, 64, 1024))


def _usable_variants():
    found = []
    for name in ('generic', 'avx2', 'avx512'):
        try:
            before = torch.ops.isda_suite._use_cpu_isa(name)
        except ValueError:
            continue
        torch.ops.isda_suite._use_cpu_isa(before)
        found.append(name)
    return found


@pytest.mark.parametrize('backend', BACKENDS)
def test_strides_of_the_operands_do_not_matter(backend):
    operands = make_operands(channels=8)
    value, _, _, locations, weights = operands
    strided = operands._replace(
        value=torch.stack([value, value], 2)[:, :, 0],
        sampling_locations=locations.transpose(1, 2).contiguous().transpose(1, 2),
        attention_weights=torch.stack([weights, weights], -1)[..., 0],
    )
    grad = grad_like_output(operands)
    strided_grad = torch.stack([grad, grad], -1)[..., 0]
    for actual, expected in zip(
        run(backend, strided, strided_grad), run(backend, operands, grad), strict=True
    ):
        assert torch.equal(actual, expected)
        assert actual.is_contiguous()
    channels_apart = operands._replace(value=value.transpose(1, 3).contiguous().transpose(1, 3))
    assert torch.equal(run(backend, channels_apart)[0], run(backend, operands)[0])


@needs_library
def test_a_value_larger_than_memory_is_addressed_with_64_bits():
    """A stride-0 view of 2^31 elements and more; offsets of 32 bits would wrap around."""
    row = torch.randn(1, 1, 1, 1024)
    side = 2048
    value = row.expand(1, side * side, 1, 1024)
    assert value.numel() > 2**31
    locations = torch.rand(1, 5, 1, 1, 4, 2) * 0.8 + 0.1
    weights = torch.rand(1, 5, 1, 1, 4)
    out = ms_deform_attn(value, torch.tensor([[side, side]]), None, locations, weights)
    expected = weights.sum((3, 4)) * row.view(1, 1, 1024)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('value_dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('points_dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_accepts_every_mixture(value_dtype, points_dtype):
    operands = make_operands().to(value_dtype, points_dtype).requires_grad()
    value, shapes, starts, locations, weights = operands
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = ms_deform_attn(value, shapes, starts, locations, weights)
        by_list = ms_deform_attn(value, shapes.tolist(), None, locations, weights)
    assert out.dtype == value_dtype
    assert torch.equal(out, by_list)
    out.sum().backward()
    assert [t.grad.dtype for t in (value, locations, weights)] == [
        value_dtype,
        points_dtype,
        points_dtype,
    ]


def test_autocast_does_not_round_locations():
    operands = make_operands(dtype=torch.float32)
    expected = ms_deform_attn(*operands)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(ms_deform_attn(*operands), expected)
