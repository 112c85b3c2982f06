"""The fused operator in ONNX: standard operators, or softmax, locations and the plug-in's node."""

import pytest
import torch
from torch import nn

from isda_suite.ops import export_onnx, ms_deform_attn_fused
from tests.ops.fused_operands import locations_and_weights, make_operands
from tests.ops.test_onnx import evaluate_with_stand_in, needs_onnx, needs_runtime, nodes, run_model

FORMS = [(2, False), (4, True)]
SHAPES = ((5, 7), (3, 4), (1, 1))
NAN, INF = float('nan'), float('inf')


class Attend(nn.Module):
    def __init__(self, overload):
        super().__init__()
        self.overload = overload
        sizes = torch.tensor(SHAPES)
        self.register_buffer('sizes', sizes)
        self.register_buffer('starts', sizes.prod(1).cumsum(0) - sizes.prod(1))

    def forward(self, value, reference, offsets, logits):
        if self.overload == 'list':
            return ms_deform_attn_fused(value, SHAPES, None, reference, offsets, logits)
        return ms_deform_attn_fused(value, self.sizes, self.starts, reference, offsets, logits)


def _operands(queries=6, form=(2, False), **arguments):
    coordinates, shared = form
    arguments = {'dtype': torch.float32, **arguments}
    return make_operands(
        SHAPES, queries=queries, coordinates=coordinates, shared=shared, **arguments
    )


def _export(overload, operands, **options):
    """With any number of queries."""
    queries = torch.export.Dim('queries')
    program = torch.export.export(
        Attend(overload),
        operands.tensors,
        dynamic_shapes=({}, *({1: queries} for _ in range(3))),
    )
    return export_onnx(program, verbose=False, **options).model_proto


@needs_runtime
@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('form', FORMS)
def test_onnxruntime_computes_the_same_for_any_number_of_queries(overload, form):
    model = _export(overload, _operands(form=form))
    assert {domain for domain, _ in nodes(model)} == {''}
    assert 'GridSample' not in {name for _, name in nodes(model)}
    for queries in (6, 1, 13):
        inputs = _operands(queries, form, seed=queries).tensors
        expected = Attend(overload)(*inputs)
        torch.testing.assert_close(run_model(model, inputs), expected, rtol=1e-5, atol=1e-5)


@needs_runtime
@pytest.mark.parametrize('overload', ['default', 'list'])
def test_onnxruntime_keeps_the_rules_at_borders_and_outside(overload):
    """Border pixels, points exactly on the edge, outside, and not finite; poisoned elsewhere."""
    pixels = [-1.0, -0.999, -0.5, 0.0, 2.0, 3.0, 3.999, 6.0, 6.999, 7.0, 50.0, NAN, INF, -INF]
    grid = torch.cartesian_prod(torch.tensor(pixels), torch.tensor(pixels))
    operands = _operands(len(grid))
    value, reference, offsets, logits = operands.tensors
    offsets[:] = grid.view(1, -1, 1, 1, 1, 2)
    reference[:] = 0.5 / torch.tensor(SHAPES).flip(1)
    model = _export(overload, operands)
    found = run_model(model, operands.tensors)
    expected = Attend(overload)(*operands.tensors)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.isfinite().all() and found.abs().max() > 0
    # Points outside every level: exactly nothing, whatever value holds.
    outside = (torch.full_like(value, NAN), reference, torch.full_like(offsets, 99.0), logits)
    assert not run_model(model, outside).any()


@needs_onnx
@pytest.mark.skipif(not hasattr(torch.onnx, 'ops'), reason='torch before 2.8 has no such nodes')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('form', FORMS)
def test_on_request_the_sampling_is_the_node_of_the_plugin(overload, form, dtype):
    """It gets locations and weights in single precision, from standard operators."""
    operands = _operands(form=form).to(dtype)
    model = _export(overload, operands, plugin=True)
    (node,) = (n for n in model.graph.node if n.op_type == 'MultiscaleDeformableAttnPlugin_TRT')
    assert node.domain == 'trt.plugins' and len(node.input) == 5 and len(node.output) == 1
    assert {domain for domain, name in nodes(model) if name != node.op_type} == {''}
    seen = evaluate_with_stand_in(model, operands.tensors)
    kinds = [str(array.dtype) for array in seen['inputs']]
    assert kinds == ['float32', 'int32', 'int32', 'float32', 'float32']
    for array, exact in zip(
        seen['inputs'][3:], locations_and_weights(operands.to(torch.float32)), strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(array), exact, rtol=1e-5, atol=1e-6)
    expected = Attend(overload)(*operands.tensors)
    torch.testing.assert_close(seen['output'], expected, rtol=2e-3, atol=2e-3)
