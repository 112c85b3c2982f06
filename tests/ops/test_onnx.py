"""Export to ONNX: standard operators that onnxruntime runs, or the node of TensorRT's plug-in."""

import importlib.util

import pytest
import torch
from torch import nn

from isda_suite.ops import MultiScaleDeformableAttention, export_onnx, ms_deform_attn
from tests.ops.operands import make_operands

MISSING = [n for n in ('onnx', 'onnxscript') if importlib.util.find_spec(n) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
needs_runtime = pytest.mark.skipif(
    bool(MISSING) or importlib.util.find_spec('onnxruntime') is None,
    reason='not installed: onnx, onnxscript or onnxruntime',
)
SHAPES = ((5, 7), (3, 4), (1, 1))
NAN, INF = float('nan'), float('inf')


class Attend(nn.Module):
    def __init__(self, overload):
        super().__init__()
        self.overload = overload
        sizes = torch.tensor(SHAPES)
        self.register_buffer('sizes', sizes)
        self.register_buffer('starts', sizes.prod(1).cumsum(0) - sizes.prod(1))

    def forward(self, value, locations, weights):
        if self.overload == 'list':
            return ms_deform_attn(value, SHAPES, None, locations, weights)
        return ms_deform_attn(value, self.sizes, self.starts, locations, weights)


def _inputs(queries=6, seed=0, dtype=torch.float32):
    value, _, _, locations, weights = make_operands(
        SHAPES, queries=queries, seed=seed, dtype=torch.float32
    )
    return value.to(dtype), locations, weights


def _export(overload, inputs=None, **options):
    """With any number of queries."""
    queries = torch.export.Dim('queries')
    program = torch.export.export(
        Attend(overload), inputs or _inputs(), dynamic_shapes=({}, {1: queries}, {1: queries})
    )
    return export_onnx(program, verbose=False, **options).model_proto


def run_model(model, inputs):
    from onnxruntime import InferenceSession

    session = InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    names = [entry.name for entry in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(None, feed)[0])


def nodes(model):
    return [(node.domain, node.op_type) for node in model.graph.node]


@needs_runtime
@pytest.mark.parametrize('overload', ['default', 'list'])
def test_onnxruntime_computes_the_same_for_any_number_of_queries(overload):
    model = _export(overload)
    assert {domain for domain, _ in nodes(model)} == {''}
    assert 'GridSample' not in {name for _, name in nodes(model)}
    for queries in (6, 1, 13):
        inputs = _inputs(queries, seed=queries)
        expected = Attend(overload)(*inputs)
        torch.testing.assert_close(run_model(model, inputs), expected, rtol=1e-5, atol=1e-5)


@needs_runtime
@pytest.mark.parametrize('overload', ['default', 'list'])
def test_onnxruntime_keeps_the_rules_at_borders_and_outside(overload):
    """Border pixels, points exactly on the edge, outside, and not finite; poisoned elsewhere."""
    pixels = [-1.0, -0.999, -0.5, 0.0, 2.0, 3.0, 3.999, 6.0, 6.999, 7.0, 50.0, NAN, INF, -INF]
    grid = torch.cartesian_prod(torch.tensor(pixels), torch.tensor(pixels))
    value, locations, weights = _inputs(queries=len(grid))
    sizes_xy = torch.tensor(SHAPES).flip(1).view(1, 1, 1, 3, 1, 2)
    locations[:] = (grid.view(1, -1, 1, 1, 1, 2) + 0.5) / sizes_xy
    found = run_model(_export(overload), (value, locations, weights))
    torch.testing.assert_close(
        found, Attend(overload)(value, locations, weights), rtol=1e-5, atol=1e-5
    )
    assert found.isfinite().all() and found.abs().max() > 0
    # Points outside every level: exactly nothing, whatever value holds.
    value, outside = torch.full_like(value, NAN), torch.full_like(locations, 9.0)
    assert not run_model(_export(overload), (value, outside, weights)).any()


@needs_runtime
def test_the_module_runs_in_onnxruntime():
    torch.manual_seed(0)
    module = MultiScaleDeformableAttention(16, 2, 3, 2).eval()
    query, value = torch.randn(4, 1, 16), torch.randn(48, 1, 16)
    arguments = {
        'value': value,
        'reference_points': torch.rand(1, 4, 3, 2),
        'spatial_shapes': list(SHAPES),
    }
    program = torch.export.export(module, (query,), arguments)
    model = export_onnx(program, verbose=False).model_proto
    found = run_model(model, (query, value, arguments['reference_points']))
    torch.testing.assert_close(found, module(query, **arguments), rtol=1e-5, atol=1e-5)


@needs_onnx
@pytest.mark.skipif(not hasattr(torch.onnx, 'ops'), reason='torch before 2.8 has no such nodes')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('overload', ['default', 'list'])
def test_on_request_it_is_the_node_of_the_plugin(overload, dtype):
    """Operands, types and output of TensorRT's plug-in, which gives (B, Q, M, C)."""
    model = _export(overload, _inputs(dtype=dtype), plugin=True)
    (node,) = (n for n in model.graph.node if n.op_type == 'MultiscaleDeformableAttnPlugin_TRT')
    assert node.domain == 'trt.plugins' and len(node.input) == 5 and len(node.output) == 1
    # A stand-in for the plug-in shows what it is given and what becomes of its output.
    seen = evaluate_with_stand_in(model, _inputs(dtype=dtype))
    assert [str(a.dtype) for a in seen['inputs']] == [
        'float32',
        'int32',
        'int32',
        'float32',
        'float32',
    ]
    assert seen['inputs'][1].tolist() == [list(size) for size in SHAPES]
    assert seen['inputs'][2].tolist() == [0, 35, 47]
    expected = Attend(overload)(*_inputs(dtype=dtype))
    torch.testing.assert_close(seen['output'], expected, rtol=2e-3, atol=2e-3)


def evaluate_with_stand_in(model, inputs):
    """Run the model with our operator for the plug-in's; what that was given, and the output."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    seen = {}

    class MultiscaleDeformableAttnPlugin_TRT(OpRun):  # the name of the node
        op_domain = 'trt.plugins'

        def _run(self, *operands):
            seen['inputs'] = operands
            value, shapes, starts, locations, weights = (torch.from_numpy(a) for a in operands)
            out = ms_deform_attn(value, shapes, starts, locations, weights)
            return (out.view(*out.shape[:2], *value.shape[2:]).numpy(),)

    evaluator = ReferenceEvaluator(model, new_ops=[MultiscaleDeformableAttnPlugin_TRT])
    feed = dict(zip(evaluator.input_names, (t.numpy() for t in inputs), strict=True))
    seen['output'] = torch.from_numpy(evaluator.run(None, feed)[0])
    return seen


def test_what_is_missing_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == 'onnxscript' else find('sys')
    )
    program = torch.export.export(nn.Identity(), (torch.ones(1),))
    with pytest.raises(ImportError, match=r"^onnxscript: expected .*'isda_suite\[onnx\]'"):
        export_onnx(program)
