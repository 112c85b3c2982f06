"""The forward pass in one CUDA kernel, by its body compiled for the host.

All threads of a block run one after the other, so places in shared memory are computed as on the
device; but for 16 bits the device multiplies on tensor cores what here plain loops multiply.
"""

import pytest
import torch

from tests.ops.convolution_operands import (
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run_forward,
)

pytestmark = needs_library
NAN = float('nan')
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 8e-3}


def _forward(operands, fused=True):
    return torch.ops.isda_suite._deform_conv2d_cuda_body_on_host(*operands, 1 << 26, fused)


def _check(operands):
    exact = run_forward('reference', operands.to(torch.float64))
    for given in (operands, operands.channels_last()):
        found = _forward(given)
        assert norm_error(found, exact) < BOUNDS[operands.input.dtype]
        assert found.stride() == run_forward('reference', given).stride()


# Depths below, at and above what is sampled at once; output channels on both sides of both tiles.
@pytest.mark.parametrize('dtype', BOUNDS)
@pytest.mark.parametrize('channels', [8, 24, 32, 48, 64, 256])
@pytest.mark.parametrize('out_channels', [1, 24, 32, 33, 64])
def test_any_number_of_channels(channels, out_channels, dtype):
    operands = make_operands(channels=channels, out_channels=out_channels, size=(9, 11))
    _check(operands.to(dtype, torch.float32))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_points_may_have_16_bits_too(dtype):
    _check(make_operands(channels=16, dtype=dtype))


@pytest.mark.parametrize(
    'sizes',
    [
        {'deform_groups': 3, 'mask': False},
        {'deform_groups': 12, 'channels': 96, 'bias': False},
        {'kernel': (5, 5), 'padding': (2, 2)},
        {'kernel': (1, 1), 'padding': (0, 0)},
        {'stride': (2, 3), 'dilation': (2, 1), 'size': (20, 21)},
        {'images': 1, 'size': (3, 3)},
        {'images': 3, 'size': (8, 8)},
        {'images': 7, 'size': (5, 5)},
    ],
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_any_geometry_and_tiles_across_images(sizes, dtype):
    operands = make_operands(**{'channels': 48, 'out_channels': 24, **sizes})
    _check(operands.to(dtype, torch.float32))


@pytest.mark.parametrize(
    'sizes',
    [
        {'channels': 8, 'groups': 2},
        {'channels': 7},
        {'channels': 12, 'deform_groups': 2},
        {'channels': 8, 'out_channels': 65},
        {'channels': 8, 'dtype': torch.float64},
        {'channels': 12, 'dtype': torch.bfloat16},
    ],
)
def test_what_it_does_not_cover_goes_over_slices(sizes):
    operands = make_operands(**{'dtype': torch.float32, **sizes})
    assert torch.equal(_forward(operands), _forward(operands, fused=False))


def test_the_two_ways_differ_where_it_is_used():
    """Or the test above would show nothing."""
    operands = make_operands(channels=64, dtype=torch.float32)
    assert not torch.equal(_forward(operands), _forward(operands, fused=False))
    # Both round the columns to 16 bits, but the sums are taken in another order.
    half = operands.to(torch.float16, torch.float32)
    assert norm_error(_forward(half), _forward(half, fused=False).double()) < 1e-3


def test_channels_at_an_odd_address():
    operands = make_operands(channels=8, dtype=torch.float32).channels_last()
    last = operands.input.permute(0, 2, 3, 1)
    moved = torch.cat([torch.zeros(1), last.flatten()])[1:].view(last.shape).permute(0, 3, 1, 2)
    assert moved.data_ptr() % 16 != 0
    assert torch.equal(_forward(operands._replace(input=moved)), _forward(operands))


def test_every_element_is_written_and_padding_stays_out():
    """The output is allocated from memory that held NaN; so is what the tiles are padded with."""
    operands = make_operands(channels=12, out_channels=9, size=(11, 11), dtype=torch.float32)
    for _ in range(3):
        garbage = [torch.full_like(grad_like_output(operands), NAN) for _ in range(3)]
        del garbage
        assert _forward(operands).isfinite().all()


def test_a_channel_that_is_not_finite_spoils_its_own_pixels_only():
    operands = make_operands(channels=8, size=(9, 9), kernel=(1, 1), padding=(0, 0), mask=False)
    operands = operands.to(torch.float32)._replace(offset=torch.zeros(2, 2, 9, 9))
    image = operands.input.clone()
    image[1, 5, 4, 3] = NAN
    found = _forward(operands._replace(input=image))
    spoiled = torch.zeros_like(found, dtype=torch.bool)
    # A corner with weight 0 is a neighbour too: the pixel left of it, and those above both.
    spoiled[1, :, 3:5, 2:4] = True
    assert torch.equal(found.isnan(), spoiled)
