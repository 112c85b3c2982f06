"""Deterministic sums of the CUDA backward, by the body of its kernel compiled for the host.

Integers are added in any order to the same sum, so here the order of the output pixels stands for
the order in which blocks of threads happen to run. The kernel itself runs in
test_deform_conv2d_cuda.py.
"""

import pytest
import torch

from tests.ops.convolution_operands import (
    Operands,
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run,
)

pytestmark = needs_library
NAN, INF = float('nan'), float('inf')


def _backward(operands, grad, deterministic=True, wanted=(True,) * 5):
    operator = torch.ops.isda_suite._deform_conv2d_backward_cuda_body_on_host
    return operator(grad, *operands[:4], *operands[5:], list(wanted), deterministic)


def _case(order=None):
    """A 1x1 kernel whose 400 points are placed freely, in any order of the output pixels.

    Weight and incoming gradient are small multiples of 1/8, so that their product is exact however
    it is computed, and places are multiples of 1/1024, so that offsets are exact. Only the shares
    of the corners are rounded.
    """
    generator = torch.Generator().manual_seed(3)

    def eighths(*shape):
        return torch.randint(-16, 17, shape, generator=generator) / 8

    side, channels, out_channels = 20, 8, 4
    pixels = side * side
    # All points meet in a few pixels, so that many numbers are added to each.
    places = torch.randint(-512, 3 * 1024, (2, pixels), generator=generator) / 1024
    mask = torch.rand(pixels, generator=generator)
    grad = eighths(out_channels, pixels)
    image = torch.randn(1, channels, side, side, generator=generator)
    weight = eighths(out_channels, channels, 1, 1)
    order = torch.arange(pixels) if order is None else order
    base = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij'))
    offset = places[:, order] - base.view(2, -1)
    operands = Operands(
        image,
        offset.view(1, 2, side, side),
        mask[order].view(1, 1, side, side),
        weight,
        None,
    )
    return operands, grad[:, order].reshape(1, out_channels, side, side)


def test_the_order_of_additions_changes_no_bit():
    order = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    first, second = _case(), _case(order)
    assert torch.equal(_backward(*first)[0], _backward(*second)[0])
    # Without it the bits do change, or this test would show nothing.
    plain = [_backward(*case, deterministic=False)[0] for case in (first, second)]
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
@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('sizes', [{}, {'groups': 2, 'deform_groups': 3, 'mask': False}])
def test_gradients_are_the_references(dtype, bound, last, sizes):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(**sizes).to(dtype, torch.float32 if half else dtype)
    operands = operands.channels_last() if last else operands
    grad = grad_like_output(operands)
    expected = run('reference', operands.to(torch.float64), grad.double())[1:]
    found = _backward(operands, grad, wanted=[t is not None for t in operands[:5]])
    found = [g for g, t in zip(found, operands[:5], strict=True) if t is not None]
    for actual, exact in zip(found, expected, strict=True):
        assert norm_error(actual, exact) < bound
        assert actual.stride() == exact.stride()


@pytest.mark.parametrize('scale', [1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_the_units_follow_the_size_of_the_gradient(scale):
    operands, grad = _case()
    expected = _backward(operands, grad)[0].double() * scale
    assert norm_error(_backward(operands, grad * scale)[0], expected) < 1e-6


@pytest.mark.parametrize('scale', [1e-280, 1e-200, 1e290])
def test_extreme_doubles_neither_overflow_nor_vanish(scale):
    operands = make_operands(dtype=torch.float64)
    grad = grad_like_output(operands) * scale
    expected = _backward(operands, grad, deterministic=False)[0]
    assert expected.abs().max() > 0
    tolerance = float(expected.abs().max()) * 1e-11
    torch.testing.assert_close(_backward(operands, grad)[0], expected, rtol=1e-9, atol=tolerance)


def test_largest_possible_sums_do_not_wrap_around():
    """Every contribution is as large as the bound, and all go to one pixel."""
    operands, grad = _case()
    base = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(20), indexing='ij'))
    operands = operands._replace(
        offset=-base.unsqueeze(0).float(),
        mask=torch.full_like(operands.mask, 1.9999),
        weight=torch.full_like(operands.weight, 1.9999),
    )
    found = _backward(operands, torch.full_like(grad, 1.9999))[0]
    expected = torch.full((8,), 400 * 4 * 1.9999**3)
    torch.testing.assert_close(found[0, :, 0, 0], expected)


@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_numbers_that_are_not_finite_stay_where_they_belong(bad):
    operands, grad = _case()
    clean = _backward(operands, grad)[0]
    mask = operands.mask.clone()
    mask[0, 0, 3, 2] = bad
    operands = operands._replace(mask=mask)
    found, expected = (_backward(operands, grad, kind)[0] for kind in (True, False))
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())
    touched = ~expected.isfinite()
    assert touched.any() and not touched.all()
    assert norm_error(found[~touched], clean[~touched]) < 1e-6


def test_only_the_gradient_of_the_input_needs_it():
    operands, grad = _case()
    plain = _backward(operands, grad, deterministic=False)
    found = _backward(operands, grad, wanted=[False, True, True, True, True])
    assert found[0].numel() == 0
    for actual, expected in zip(found[1:], plain[1:], strict=True):
        assert torch.equal(actual, expected)


def test_no_gradient():
    operands, grad = _case()
    for gradient in _backward(operands, torch.zeros_like(grad)):
        assert not gradient.any()
