"""The CUDA kernels of the fused operator on a GPU: the CPU's results, graphs, reproducible bits."""

import pytest
import torch

from tests.ops.fused_operands import FORMS, grad_like_output, make_operands, run
from tests.ops.operands import norm_error

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
]
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 8e-3}


def _to_device(operands):
    return type(operands)(*(tensor.cuda() for tensor in operands))


@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('dtype', list(BOUNDS))
@pytest.mark.parametrize('channels', [1, 5, 32, 48, 1024])
def test_results_are_the_cpus(coordinates, shared, dtype, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels, coordinates=coordinates, shared=shared)
    operands = operands.to(dtype, torch.float32 if half else dtype)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < BOUNDS[dtype]


@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_many_levels_and_points_are_the_cpus(coordinates, shared):
    shapes = [(10, 13)] * 36 + [(8, 20)]
    operands = make_operands(shapes, 1, 300, 8, 48, 6, coordinates, shared, torch.float32)
    grad = grad_like_output(operands)
    on_device = run('compiled', _to_device(operands), grad.cuda())
    for actual, expected in zip(on_device, run('compiled', operands, grad), strict=True):
        assert norm_error(actual.cpu(), expected) < 1e-5


def test_forward_and_backward_are_captured_in_a_graph():
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


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_deterministic_algorithms_give_the_same_bits_again(dtype):
    operands = make_operands(queries=5000, heads=8, channels=48, shared=True)
    operands = _to_device(operands.to(dtype, torch.float32))
    grad = grad_like_output(operands).cuda()
    torch.use_deterministic_algorithms(True)
    try:
        first, *others = (run('compiled', operands, grad) for _ in range(5))
    finally:
        torch.use_deterministic_algorithms(False)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
