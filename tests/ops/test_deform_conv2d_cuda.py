"""The CUDA kernels of deformable convolution on a GPU: the CPU's results, streams, graphs."""

import pytest
import torch

from isda_suite.ops import deform_conv2d, info
from tests.ops.convolution_operands import (
    Operands,
    grad_like_output,
    make_operands,
    norm_error,
    run,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
]
HALVES = (torch.float16, torch.bfloat16)


def _to_device(operands, device='cuda'):
    return operands.map(lambda tensor: tensor.to(device))


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # torch asks for it
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_the_kernels_are_compiled():
    assert info()['ops']['deform_conv2d']['cuda'] == 'compiled', info()['cuda_reason']


@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize('channels', [1, 7, 24, 48, 64, 256])
@pytest.mark.parametrize('out_channels', [24, 64, 72])  # one kernel up to 64, where it fits
def test_results_are_the_cpus(dtype, channels, out_channels, last):
    operands = make_operands(channels=channels, out_channels=out_channels, size=(20, 23))
    operands = operands.to(dtype, torch.float32 if dtype in HALVES else dtype)
    operands = operands.channels_last() if last else operands
    bound = {torch.float32: 2e-5, torch.float64: 1e-13, torch.float16: 2e-3}.get(dtype, 8e-3)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < bound
        assert actual.stride() == expected.stride()


@pytest.mark.parametrize('groups, deform_groups', [(1, 4), (2, 3), (12, 2)])
@pytest.mark.parametrize('kernel, padding', [((1, 1), (0, 0)), ((3, 3), (1, 1)), ((5, 5), (2, 2))])
def test_groups_and_kernels_of_any_size(groups, deform_groups, kernel, padding):
    operands = make_operands(
        channels=48,
        out_channels=24,
        groups=groups,
        deform_groups=deform_groups,
        kernel=kernel,
        padding=padding,
        stride=(2, 1),
        dilation=(1, 2),
        size=(40, 50),
    )
    for actual, expected in zip(
        run('compiled', _to_device(operands)), run('compiled', operands), strict=True
    ):
        assert norm_error(actual.cpu(), expected) < 1e-12


def test_more_columns_than_the_workspace():
    """256 channels and 3x3 taps of 13 600 pixels are 125 MB of columns."""
    operands = make_operands(1, 256, 96, (100, 136), dtype=torch.float32)
    for actual, expected in zip(
        run('compiled', _to_device(operands)), run('compiled', operands), strict=True
    ):
        assert norm_error(actual.cpu(), expected) < 2e-5
    torch.cuda.synchronize()
    given = _to_device(operands)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    output = torch.ops.isda_suite.deform_conv2d(*given)
    most = 64 * 2**20 + sum(t.nbytes for t in (given.input, given.weight, output)) + 2**20
    assert torch.cuda.max_memory_allocated() - before < most


def test_nothing_waits_for_the_gpu():
    operands = _to_device(make_operands(dtype=torch.float32))
    grad = grad_like_output(operands).cuda()
    run('compiled', operands, grad)
    torch.cuda.set_sync_debug_mode('error')
    try:
        run('compiled', operands, grad)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_runs_on_the_current_stream():
    operands = _to_device(make_operands(dtype=torch.float32))
    expected = torch.ops.isda_suite.deform_conv2d(*operands)
    streams = [torch.cuda.Stream() for _ in range(2)]
    found = []
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found.append(torch.ops.isda_suite.deform_conv2d(*operands))
    for stream, output in zip(streams, found, strict=True):
        stream.synchronize()
        assert torch.equal(output, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('reproducible', [False, True])
def test_forward_and_backward_in_a_graph(dtype, reproducible, request):
    if reproducible:
        request.getfixturevalue('deterministic')
    operands = _to_device(make_operands(dtype=torch.float32).to(dtype, torch.float32))
    grad = grad_like_output(operands).cuda()
    run('compiled', operands, grad)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run('compiled', operands, grad)
    operands.input.mul_(-2)
    grad.mul_(4)
    graph.replay()
    for actual, expected in zip(captured, run('compiled', operands, grad), strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_device_of_the_input_is_used():
    if torch.cuda.device_count() < 2:
        pytest.skip('needs two GPUs')
    operands = make_operands(dtype=torch.float32)
    on_device = run('compiled', _to_device(operands, 'cuda:1'), grad_like_output(operands).to(1))
    for actual, expected in zip(on_device, run('compiled', operands), strict=True):
        assert actual.device.index == 1
        assert norm_error(actual.cpu(), expected) < 2e-5


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_deterministic_algorithms_give_the_same_bits_again(dtype, deterministic):
    operands = make_operands(2, 64, 64, (60, 70)).to(dtype, torch.float32)
    on_device, grad = _to_device(operands), grad_like_output(operands)
    first, *others = (run('compiled', on_device, grad.cuda()) for _ in range(5))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for actual, exact in zip(first, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), exact) < (8e-3 if dtype == torch.bfloat16 else 2e-5)


def test_tf32_is_for_the_forward_pass_alone():
    operands = _to_device(make_operands(2, 64, 64, (30, 30), dtype=torch.float32))
    grad = grad_like_output(operands).cuda()
    exact = run('compiled', operands, grad)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        output, _, *gradients = run('compiled', operands, grad)
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert norm_error(output, exact[0]) < 1e-2
    for actual, expected in zip(gradients, exact[2:], strict=True):
        assert torch.equal(actual, expected)


def test_more_than_2_to_31_elements():
    """The last rows lie beyond what 32 bits can address."""
    side, channels = 1450, 1024
    image = torch.zeros(1, side, side, channels, dtype=torch.float16, device='cuda')
    assert image.numel() > 2**31
    image[:, -1] = 1
    offset = torch.zeros(1, 2, side, 1, device='cuda')
    weight = torch.full((8, channels, 1, 1), 1 / 64, dtype=torch.float16, device='cuda')
    operands = Operands(image.permute(0, 3, 1, 2), offset, None, weight, None, (1, side))
    output = torch.ops.isda_suite.deform_conv2d(*operands)
    assert output.shape == (1, 8, side, 1)
    assert not output[:, :, :-1].any()
    assert norm_error(output[:, :, -1].cpu(), torch.full((1, 8, 1), 16.0)) < 2e-3


@pytest.mark.parametrize('dtype', HALVES)
def test_autocast_accepts_every_mixture(dtype):
    operands = _to_device(make_operands(dtype=torch.float32).to(dtype, torch.float32))
    operands = operands._replace(weight=operands.weight.float()).requires_grad()
    with torch.autocast('cuda', dtype=torch.bfloat16):
        out = deform_conv2d(*operands)
        out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert [t.grad.dtype for t in operands.tensors] == [t.dtype for t in operands.tensors]
