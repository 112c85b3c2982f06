"""Every backend computes the definition; gradients are those of the definition."""

import pytest
import torch
import torch.nn.functional as F

from isda_suite.ops import deform_conv2d
from tests.ops.convolution_operands import (
    BACKENDS,
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run,
    run_backward,
    run_forward,
    slow_loop,
)

GEOMETRIES = {
    'plain': {},
    'v1': {'mask': False, 'bias': False},
    'strided': {'stride': (2, 1), 'padding': (0, 2), 'dilation': (1, 2), 'kernel': (2, 3)},
    'weight groups': {'groups': 2},
    'deform groups': {'deform_groups': 3},
    'groups across': {'groups': 2, 'deform_groups': 3},
    'depthwise': {'groups': 6, 'out_channels': 12, 'deform_groups': 2},
}


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', GEOMETRIES)
def test_output_is_the_slow_loops(backend, name):
    operands = make_operands(images=1, size=(5, 6), **GEOMETRIES[name])
    torch.testing.assert_close(
        run_forward(backend, operands), slow_loop(operands), rtol=1e-12, atol=1e-12
    )


# Channels on both sides of register widths and of the block of 64; more pixels than one tile.
@needs_library
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    'sizes',
    [
        {'channels': 1, 'out_channels': 1},
        {'channels': 48, 'out_channels': 24, 'size': (9, 13), 'mask': False, 'bias': False},
        {'channels': 20, 'out_channels': 33, 'size': (12, 17)},
        {'channels': 130, 'out_channels': 40, 'size': (6, 5), 'deform_groups': 2},
        {'channels': 96, 'out_channels': 64, 'groups': 2, 'deform_groups': 3},
        {'channels': 300, 'out_channels': 5, 'kernel': (1, 1), 'padding': (0, 0)},
        {'images': 11, 'channels': 8, 'size': (3, 3)},
        {'groups': 6, 'out_channels': 12, 'deform_groups': 2, 'stride': (2, 2)},
    ],
)
def test_kernels_agree_with_the_reference(dtype, sizes):
    operands = make_operands(**sizes, dtype=dtype)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    for last in (False, True):
        given_ = operands.channels_last() if last else operands
        for actual, expected in zip(run('compiled', given_), run('reference', given_), strict=True):
            assert actual.dtype == dtype
            assert actual.stride() == expected.stride()
            assert norm_error(actual, expected) < tolerance


def _call(operands):
    names = [n for n, t in zip(operands._fields, operands[:5], strict=False) if t is not None]

    def call(*tensors):
        return deform_conv2d(*operands._replace(**dict(zip(names, tensors, strict=True))))

    return call, operands.requires_grad().tensors


SMALL = {'images': 1, 'channels': 4, 'out_channels': 2, 'size': (4, 3), 'kernel': (2, 2)}


@pytest.mark.parametrize('extra', [{'groups': 2, 'deform_groups': 2}, {'mask': False}])
def test_gradcheck(extra):
    call, tensors = _call(make_operands(**SMALL, **extra))
    assert torch.autograd.gradcheck(call, tensors, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize('extra', [{'groups': 2, 'deform_groups': 2}, {'mask': False}])
def test_second_derivatives(extra):
    sizes = {**SMALL, 'size': (3, 3), 'padding': (0, 0), **extra}
    call, tensors = _call(make_operands(**sizes))
    assert torch.autograd.gradgradcheck(call, tensors, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('groups', [1, 2])
def test_zero_offsets_and_unit_mask_are_a_convolution(backend, groups):
    operands = make_operands(groups=groups, stride=(2, 1), dilation=(1, 2))
    operands = operands._replace(
        offset=torch.zeros_like(operands.offset), mask=torch.ones_like(operands.mask)
    )
    plain = F.conv2d(
        operands.input, operands.weight, operands.bias, *operands[5:8], operands.groups
    )
    torch.testing.assert_close(run_forward(backend, operands), plain)


@pytest.mark.parametrize('backend', BACKENDS)
def test_whole_offsets_are_a_convolution_of_the_moved_input(backend):
    operands = make_operands(mask=False, padding=(0, 0), size=(9, 10))
    offset = torch.zeros_like(operands.offset)
    offset[:, 0::2], offset[:, 1::2] = 2, -1
    moved = F.pad(operands.input, (1, -1, -2, 2))
    plain = F.conv2d(moved, operands.weight, operands.bias)
    torch.testing.assert_close(run_forward(backend, operands._replace(offset=offset)), plain)


@pytest.mark.parametrize('backend', BACKENDS)
def test_only_the_gradients_asked_for_are_computed(backend):
    operands = make_operands(groups=2, deform_groups=3)
    grad = grad_like_output(operands)
    complete = run_backward(backend, operands, grad)
    for wanted in range(5):
        mask = [i == wanted for i in range(5)]
        part = run_backward(backend, operands, grad, mask)
        assert torch.equal(part[wanted], complete[wanted])
        assert [t.numel() == 0 for t in part] == [not m for m in mask]


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_mask_that_is_not_there_has_no_gradient(backend):
    operands = make_operands(mask=False)
    gradients = run_backward(backend, operands, grad_like_output(operands), [True] * 5)
    assert gradients[2].shape == (0,)
