"""The CUDA kernels on a GPU: the CPU's results, streams, graphs, devices, launches.

``compute-sanitizer --tool memcheck`` and ``--tool racecheck`` run these tests too: csrc/README.md.
"""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from isda_suite.ops import info, ms_deform_attn
from tests.ops.operands import (
    grad_like_output,
    make_operands,
    norm_error,
    run,
    run_backward,
    run_forward,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
]


def _to_device(operands, device='cuda'):
    return type(operands)(*(tensor.to(device) for tensor in operands))


def test_the_kernels_are_compiled():
    assert info()['ops']['ms_deform_attn']['cuda'] == 'compiled', info()['cuda_reason']


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('channels', [1, 5, 8, 12, 32, 48, 100, 1023, 1024])
def test_results_are_the_cpus(dtype, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels).to(dtype, torch.float32 if half else dtype)
    bound = {torch.float32: 5e-6, torch.float64: 1e-13, torch.float16: 2e-3}.get(dtype, 8e-3)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < bound


def test_many_levels_and_points_are_the_cpus():
    """37 levels of 6 points: more than a block holds at once."""
    shapes = [(10, 13)] * 36 + [(8, 20)]
    operands = make_operands(shapes, 1, 500, 8, 48, 6, dtype=torch.float32)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < 5e-6


@pytest.mark.parametrize('num_levels', [1, 64, 65])
def test_tables_on_either_side_and_lists(num_levels):
    """Up to 64 levels travel as arguments of the kernel, more through a buffer."""
    operands = make_operands(((2, 3),) * num_levels, dtype=torch.float32)
    value, shapes, starts, locations, weights = _to_device(operands)
    expected = ms_deform_attn(value, shapes, starts, locations, weights)
    for tables in ((shapes.cpu(), starts.cpu()), (shapes.cpu(), starts), (shapes.tolist(), None)):
        assert torch.equal(ms_deform_attn(value, *tables, locations, weights), expected)


def test_two_streams_at_once_give_what_one_gives():
    operands = [
        _to_device(make_operands(queries=2000, seed=s, dtype=torch.float32)) for s in (0, 1)
    ]
    expected = [run_forward('compiled', o) for o in operands]
    streams = [torch.cuda.Stream() for _ in operands]
    torch.cuda.synchronize()
    for _ in range(10):
        results = []
        for stream, one in zip(streams, operands, strict=True):
            with torch.cuda.stream(stream):
                results.append(run_forward('compiled', one))
        torch.cuda.synchronize()
        for actual, exact in zip(results, expected, strict=True):
            assert torch.equal(actual, exact)


@pytest.fixture(params=[False, True], ids=['atomic', 'deterministic'])
def deterministic(request):
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def test_forward_and_backward_are_captured_in_a_graph(deterministic):
    operands = _to_device(make_operands(dtype=torch.float32))
    grad = grad_like_output(operands).cuda()
    run('compiled', operands, grad)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run('compiled', operands, grad)
    operands.value.mul_(2)
    graph.replay()
    for actual, expected in zip(captured, run('compiled', operands, grad), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('tables', ['device', 'host', 'list'])
def test_nothing_waits_for_the_device(deterministic, tables):
    value, shapes, starts, locations, weights = _to_device(make_operands(dtype=torch.float32))
    table = {
        'device': (shapes, starts),
        'host': (shapes.cpu(), starts.cpu()),
        'list': (shapes.flatten().tolist(),),
    }[tables]
    operands = (value, *table, locations, weights)
    grad = torch.ones_like(torch.ops.isda_suite.ms_deform_attn(*operands))
    torch.cuda.set_sync_debug_mode('error')
    try:
        torch.ops.isda_suite.ms_deform_attn(*operands)
        torch.ops.isda_suite.ms_deform_attn_backward(grad, *operands, [True, True, True])
    finally:
        torch.cuda.set_sync_debug_mode('default')


def _launches(call):
    """Kernels and fills that one call starts."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    return [event.name for event in profiler.events() if event.device_type == on_device]


def test_one_launch_forward_and_two_backward():
    operands = _to_device(make_operands(dtype=torch.float32))
    grad = grad_like_output(operands).cuda()
    assert len(_launches(lambda: run_forward('compiled', operands))) == 1
    assert len(_launches(lambda: run_backward('compiled', operands, grad))) <= 2
    half = operands.to(torch.float16, torch.float32)
    assert len(_launches(lambda: run_backward('compiled', half, grad.half()))) <= 3


def test_the_device_of_value_is_used():
    if torch.cuda.device_count() < 2:
        pytest.skip('needs two GPUs')
    operands = make_operands(dtype=torch.float32)
    out = ms_deform_attn(*_to_device(operands, 'cuda:1'))
    assert out.device.index == 1
    assert norm_error(out.cpu(), ms_deform_attn(*operands)) < 5e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('deterministic', [True], indirect=True)
def test_deterministic_algorithms_give_the_same_bits_again(deterministic, dtype):
    operands = make_operands(queries=5000, heads=8, channels=48).to(dtype, torch.float32)
    on_device, grad = _to_device(operands), grad_like_output(operands)
    expected = run('compiled', operands, grad)
    first, *others = (run('compiled', on_device, grad.cuda()) for _ in range(5))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for actual, exact in zip(first, expected, strict=True):
        assert norm_error(actual.cpu(), exact) < (8e-3 if dtype == torch.bfloat16 else 5e-6)


def test_more_than_2_to_31_elements():
    """Value has 4 GiB, its gradient 8 GiB while it is summed up."""
    if torch.cuda.get_device_properties(0).total_memory < 30 * 2**30:
        pytest.skip('needs 30 GiB of device memory')
    side = 1450
    operands = make_operands(((2, 2),), 1, 5, 1, 1024, 4, dtype=torch.float16)
    value = torch.zeros(1, side * side, 1, 1024, dtype=torch.float16, device='cuda')
    assert value.numel() > 2**31
    value[:, -side:] = 1
    # Between two columns, half a pixel below the last line.
    locations = torch.ones_like(operands.sampling_locations.cuda(), dtype=torch.float32)
    locations[..., 0] = 0.5
    weights = operands.attention_weights.cuda()
    arguments = (value, [side, side], locations, weights)
    out = torch.ops.isda_suite.ms_deform_attn(*arguments)
    expected = weights.float().sum((3, 4)).expand(1, 5, 1024) / 2
    assert norm_error(out, expected) < 2e-3
    backward = torch.ops.isda_suite.ms_deform_attn_backward
    grad_value = backward(torch.ones_like(out), *arguments, [True, False, False])[0]
    assert not grad_value[:, :-side].any()
    total = grad_value[:, -side:].float().sum((0, 1, 2))
    assert norm_error(total, weights.float().sum().expand(1024) / 2) < 2e-3


def test_autocast_accepts_every_mixture():
    operands = _to_device(make_operands(dtype=torch.float32)).to(torch.float16, torch.bfloat16)
    with torch.autocast('cuda', dtype=torch.bfloat16):
        assert ms_deform_attn(*operands).dtype == torch.float16
