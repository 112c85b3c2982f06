"""The CUDA kernels on a GPU: the CPU's results, streams, graphs, devices."""

import pytest
import torch

from isda_suite.ops import info, ms_deform_attn
from tests.ops.operands import grad_like_output, make_operands, norm_error, run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
]


def _to_device(operands, device='cuda'):
    return type(operands)(*(tensor.to(device) for tensor in operands))


def test_the_kernels_are_compiled():
    assert info()['ops']['ms_deform_attn']['cuda'] == 'compiled', info()['cuda_reason']


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('channels', [1, 5, 8, 32, 48, 100])
def test_results_are_the_cpus(dtype, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels).to(dtype, torch.float32 if half else dtype)
    bound = {torch.float32: 5e-6, torch.float64: 1e-13, torch.float16: 2e-3}.get(dtype, 8e-3)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < bound


@pytest.mark.parametrize('num_levels', [1, 64, 65])
def test_tables_on_either_side_and_lists(num_levels):
    """Up to 64 levels travel as arguments of the kernel, more through a buffer."""
    operands = make_operands(((2, 3),) * num_levels, dtype=torch.float32)
    value, shapes, starts, locations, weights = _to_device(operands)
    expected = ms_deform_attn(value, shapes, starts, locations, weights)
    for tables in ((shapes.cpu(), starts.cpu()), (shapes.cpu(), starts), (shapes.tolist(), None)):
        assert torch.equal(ms_deform_attn(value, *tables, locations, weights), expected)


def test_runs_on_the_current_stream_and_in_a_graph():
    operands = _to_device(make_operands(dtype=torch.float32))
    expected = ms_deform_attn(*operands)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        on_stream = ms_deform_attn(*operands)
    stream.synchronize()
    assert torch.equal(on_stream, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ms_deform_attn(*operands)
    operands.value.mul_(2)
    graph.replay()
    torch.testing.assert_close(captured, 2 * expected)


def test_the_device_of_value_is_used():
    if torch.cuda.device_count() < 2:
        pytest.skip('needs two GPUs')
    operands = make_operands(dtype=torch.float32)
    out = ms_deform_attn(*_to_device(operands, 'cuda:1'))
    assert out.device.index == 1
    assert norm_error(out.cpu(), ms_deform_attn(*operands)) < 5e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_deterministic_algorithms_give_the_same_bits_again(dtype):
    operands = make_operands(queries=5000, heads=8, channels=32).to(dtype, torch.float32)
    on_device, grad = _to_device(operands), grad_like_output(operands)
    expected = run('compiled', operands, grad)
    torch.use_deterministic_algorithms(True)
    try:
        first, *others = (run('compiled', on_device, grad.cuda()) for _ in range(5))
    finally:
        torch.use_deterministic_algorithms(False)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for actual, exact in zip(first, expected, strict=True):
        assert norm_error(actual.cpu(), exact) < (8e-3 if dtype == torch.bfloat16 else 5e-6)


def test_more_than_2_to_31_elements():
    side = 1450
    operands = make_operands(((2, 2),), 1, 5, 1, 1024, 4, dtype=torch.float16)
    value = torch.zeros(1, side * side, 1, 1024, dtype=torch.float16, device='cuda')
    assert value.numel() > 2**31
    value[:, -side:] = 1
    locations = torch.ones_like(operands.sampling_locations.cuda())
    locations[..., 0] = 0.5
    locations[..., 1] = 1 - 0.5 / side
    weights = operands.attention_weights.cuda()
    shapes = [(side, side)]
    out = ms_deform_attn(value, shapes, None, locations.float(), weights)
    expected = weights.float().sum((3, 4)).expand(1, 5, 1024)
    assert norm_error(out, expected) < 2e-3


def test_autocast_accepts_every_mixture():
    operands = _to_device(make_operands(dtype=torch.float32)).to(torch.float16, torch.bfloat16)
    with torch.autocast('cuda', dtype=torch.bfloat16):
        assert ms_deform_attn(*operands).dtype == torch.float16
