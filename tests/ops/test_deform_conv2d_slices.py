"""The CUDA path slice by slice, on the host: the same code around the bodies of the kernels.

What all backends have in common is tested with the others; here are slices, tails, shapes on both
sides of what a block handles, and settings that callers may have made.
"""

import pytest
import torch

from isda_suite.ops import info
from tests.ops.convolution_operands import (
    grad_like_output,
    make_operands,
    needs_library,
    norm_error,
    run,
)

pytestmark = needs_library
HALVES = (torch.float16, torch.bfloat16)


def _run(operands, grad, workspace=1 << 26, deterministic=False, wanted=None):
    operators = torch.ops.isda_suite
    wanted = wanted or [t is not None for t in operands[:5]]
    output = operators._deform_conv2d_cuda_body_on_host(*operands, workspace, False)
    gradients = operators._deform_conv2d_backward_cuda_body_on_host(
        grad, *operands[:4], *operands[5:], wanted, deterministic, workspace
    )
    return output, *(g for g, t in zip(gradients, operands[:5], strict=True) if t is not None)


def _case(dtype=torch.float64, **sizes):
    operands = make_operands(**sizes).to(dtype, torch.float32 if dtype in HALVES else dtype)
    return operands, grad_like_output(operands)


def _bound(dtype, index):
    """One rounding at the end; float32 gradients may be off by twice as much as the output."""
    single = 1e-5 if index == 0 else 2e-5
    return {torch.float64: 1e-12, torch.float32: single, torch.float16: 2e-3}.get(dtype, 8e-3)


def test_a_library_with_cuda_has_its_kernels():
    kind = 'compiled' if info()['cuda_archs'] else 'reference'
    assert info()['ops']['deform_conv2d'] == {'cpu': 'compiled', 'cuda': kind}


# Channels on both sides of 16 bytes and of the lanes, and odd ones.
@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize('channels', [1, 7, 24, 48, 64, 256])
def test_any_number_of_channels(channels, dtype, last):
    operands, grad = _case(dtype, channels=channels, out_channels=24, size=(6, 7))
    operands = operands.channels_last() if last else operands
    exact = run('reference', operands.to(torch.float64), grad.double())
    for i, (actual, expected) in enumerate(zip(_run(operands, grad), exact, strict=True)):
        assert norm_error(actual, expected) < _bound(dtype, i)
        assert actual.stride() == expected.stride()


@pytest.mark.parametrize('workspace', [1, 100_000, 400_000, 1 << 26])
@pytest.mark.parametrize('images', [1, 5])
@pytest.mark.parametrize('groups, deform_groups', [(1, 1), (1, 3), (2, 1), (2, 3), (6, 2), (6, 6)])
def test_slices_of_any_size_give_the_same(groups, deform_groups, images, workspace):
    """One pixel, several parts of an image, some images with a rest, and all at once."""
    operands, grad = _case(
        groups=groups, deform_groups=deform_groups, images=images, size=(9, 13), out_channels=6
    )
    expected = run('reference', operands, grad)
    for last in (False, True):
        given = operands.channels_last() if last else operands
        for actual, exact in zip(_run(given, grad, workspace), expected, strict=True):
            assert norm_error(actual, exact) < 1e-12


@pytest.mark.parametrize('kernel, padding', [((1, 1), (0, 0)), ((5, 5), (2, 2)), ((3, 2), (1, 0))])
@pytest.mark.parametrize('stride, dilation', [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 2), (2, 1))])
def test_any_kernel_stride_and_dilation(kernel, padding, stride, dilation):
    operands, grad = _case(
        kernel=kernel,
        padding=padding,
        stride=stride,
        dilation=dilation,
        size=(12, 11),
        channels=8,
        deform_groups=4,
        mask=False,
    )
    expected = run('reference', operands, grad)
    for actual, exact in zip(_run(operands, grad, workspace=50_000), expected, strict=True):
        assert norm_error(actual, exact) < 1e-12


def test_more_pairs_of_tap_and_group_than_a_block_handles():
    operands, grad = _case(channels=12, deform_groups=12, kernel=(5, 5), padding=(2, 2))
    expected = run('reference', operands, grad)
    for actual, exact in zip(_run(operands, grad), expected, strict=True):
        assert norm_error(actual, exact) < 1e-12


def test_channels_at_an_odd_address():
    """Loads of 16 bytes would be faults where a view does not begin at such an address."""
    operands, grad = _case(torch.float32, channels=8)
    last = operands.channels_last().input.permute(0, 2, 3, 1)
    moved = torch.cat([torch.zeros(1), last.flatten()])[1:].view(last.shape).permute(0, 3, 1, 2)
    assert moved.data_ptr() % 16 != 0
    expected = _run(operands.channels_last(), grad)
    for actual, exact in zip(_run(operands._replace(input=moved), grad), expected, strict=True):
        torch.testing.assert_close(actual, exact)


@pytest.mark.parametrize('groups', [1, 2])
def test_gradients_asked_for_alone_are_those_of_all(groups):
    operands, grad = _case(groups=groups, deform_groups=3)
    complete = _run(operands, grad)[1:]
    for wanted in range(5):
        mask = [i == wanted for i in range(5)]
        part = _run(operands, grad, wanted=mask)[1:]
        assert torch.equal(part[wanted], complete[wanted])
        assert [t.numel() == 0 for t in part] == [not m for m in mask]


def test_autocast_does_not_reach_the_products():
    operands, grad = _case(torch.float32)
    expected = _run(operands, grad)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = _run(operands, grad)
    for actual, exact in zip(found, expected, strict=True):
        assert torch.equal(actual, exact)


@pytest.mark.parametrize('dtype, name', [(torch.float16, 'fp16'), (torch.bfloat16, 'bf16')])
@pytest.mark.parametrize('allowed', [True, False])
def test_the_switch_for_reduced_sums_stays_as_it_was(dtype, name, allowed):
    name = f'allow_{name}_reduced_precision_reduction'
    before = getattr(torch.backends.cuda.matmul, name)
    setattr(torch.backends.cuda.matmul, name, allowed)
    try:
        _run(*_case(dtype))
        assert getattr(torch.backends.cuda.matmul, name) == allowed
    finally:
        setattr(torch.backends.cuda.matmul, name, before)
