"""Half precision, mixed precision, autocast and memory formats."""

import pytest
import torch

from isda_suite.ops import deform_conv2d
from tests.ops.convolution_operands import (
    BACKENDS,
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run,
    run_forward,
)

BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 8e-3}
HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('channels', [6, 48])
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('points_dtype', ['float32', 'same'])
def test_sixteen_bits_cost_one_rounding(backend, dtype, channels, points_dtype):
    points_dtype = torch.float32 if points_dtype == 'float32' else dtype
    operands = make_operands(channels=channels, groups=2).to(dtype, points_dtype)
    grad = grad_like_output(operands)
    exact = run('reference', operands.to(torch.float64), grad.double())
    results = run(backend, operands, grad)
    expected = [dtype, dtype, points_dtype, points_dtype, dtype, dtype]
    assert [t.dtype for t in results] == expected
    for actual, wanted in zip(results, exact, strict=True):
        assert norm_error(actual, wanted) < BOUNDS[dtype]


@needs_library
def test_single_precision_is_close_to_double():
    operands = make_operands(channels=64, out_channels=48, size=(20, 20))
    single = operands.to(torch.float32)
    exact = run('reference', single.to(torch.float64), grad_like_output(single).double())
    forward, *gradients = run('compiled', single)
    assert norm_error(forward, exact[0]) < 1e-5
    for actual, wanted in zip(gradients, exact[1:], strict=True):
        assert norm_error(actual, wanted) < 2e-5


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_the_memory_format_of_the_input_is_kept(backend, dtype):
    operands = make_operands(images=2, channels=5, dtype=dtype)
    grad = grad_like_output(operands)
    dense, last = operands, operands.channels_last()
    for from_dense, from_last, like_input in zip(
        run(backend, dense, grad),
        run(backend, last, grad.contiguous(memory_format=torch.channels_last)),
        [True, True, False, False, False, False],
        strict=True,
    ):
        torch.testing.assert_close(from_dense, from_last)
        assert from_dense.is_contiguous()
        assert from_last.is_contiguous(
            memory_format=torch.channels_last if like_input else torch.contiguous_format
        )


@pytest.mark.parametrize('backend', BACKENDS)
def test_strides_of_the_operands_do_not_matter(backend):
    operands = make_operands()
    grad = grad_like_output(operands)
    strided = operands.map(lambda t: torch.stack([t, t], -1)[..., 0])
    strided_grad = grad.transpose(1, 2).contiguous().transpose(1, 2)
    for actual, expected in zip(
        run(backend, strided, strided_grad), run(backend, operands, grad), strict=True
    ):
        assert torch.equal(actual, expected)
        assert actual.is_contiguous()


@pytest.mark.parametrize('backend', BACKENDS)
def test_operands_may_be_expanded_over_the_batch(backend):
    one = make_operands(images=1)
    expanded = one._replace(
        **{name: getattr(one, name).expand(3, -1, -1, -1) for name in ('input', 'offset', 'mask')}
    )
    out = run_forward(backend, one).expand(3, -1, -1, -1)
    torch.testing.assert_close(run_forward(backend, expanded), out)


@pytest.mark.parametrize('input_dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('points_dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_accepts_every_mixture(input_dtype, points_dtype):
    operands = make_operands().to(input_dtype, points_dtype)
    operands = operands._replace(weight=operands.weight.float()).requires_grad()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = deform_conv2d(*operands)
    double = input_dtype == torch.float64
    assert out.dtype == (input_dtype if double else torch.bfloat16)
    out.sum().backward()
    assert [t.grad.dtype for t in operands.tensors] == [t.dtype for t in operands.tensors]


def test_autocast_does_not_round_offsets():
    operands = make_operands(dtype=torch.float32)
    rounded = operands.to(torch.bfloat16, torch.float32)
    rounded = rounded._replace(offset=operands.offset, mask=operands.mask.bfloat16())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = deform_conv2d(*operands)
    assert torch.equal(found, deform_conv2d(*rounded))
