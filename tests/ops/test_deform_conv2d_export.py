"""Deformable convolution exported: one node, plain ATen or ONNX's DeformConv; results stay."""

import importlib.util

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from isda_suite.ops import decomposition_table, deform_conv2d, export_onnx
from tests.ops.convolution_operands import grad_like_output, make_operands, norm_error, run

MISSING = [n for n in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(n) is None]
needs_runtime = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
needs_node = pytest.mark.skipif(
    not hasattr(torch.onnx, 'ops'), reason='torch before 2.8 has no such nodes'
)
CASES = {
    'v1': {'mask': False, 'bias': False},
    'v2': {},
    'v2 without bias': {'bias': False},
    'every number': {
        'mask': False,
        'groups': 2,
        'deform_groups': 3,
        'kernel': (3, 2),
        'stride': (2, 1),
        'padding': (1, 2),
        'dilation': (1, 2),
    },
}


class Convolve(nn.Module):
    def __init__(self, operands):
        super().__init__()
        self.weight = nn.Parameter(operands.weight)
        self.bias = None if operands.bias is None else nn.Parameter(operands.bias)
        self.geometry = operands[5:]

    def forward(self, x, offset, mask=None):
        return deform_conv2d(x, offset, mask, self.weight, self.bias, *self.geometry)


def _inputs(operands):
    return tuple(t for t in operands[:3] if t is not None)


def _export(operands, sizes=True):
    """With any number of images; with ``sizes`` of any size, which needs a stride of one."""
    axes = {0: Dim('images'), **({2: Dim('height'), 3: Dim('width')} if sizes else {})}
    inputs = _inputs(operands)
    return torch.export.export(
        Convolve(operands), inputs, dynamic_shapes=[axes, axes, axes][: len(inputs)]
    )


def _operators(program):
    targets = [node.target for node in program.graph.nodes if node.op == 'call_function']
    return [str(target) for target in targets if isinstance(target, torch._ops.OpOverload)]


@pytest.mark.parametrize('case', ['v1', 'v2'])
def test_export_keeps_one_node_and_decomposes_on_request_for_any_size(case):
    operands = make_operands(**CASES[case])
    program = _export(operands)
    assert _operators(program) == ['isda_suite.deform_conv2d.default']
    plain = program.run_decompositions(decomposition_table())
    assert {name.partition('.')[0] for name in _operators(plain)} == {'aten'}
    for images, size in ((2, (7, 8)), (5, (9, 4))):
        inputs = _inputs(make_operands(**CASES[case], images=images, size=size, seed=images))
        torch.testing.assert_close(
            plain.module()(*inputs), program.module()(*inputs), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize('case', CASES)
def test_decomposed_gradients_are_the_operators(case):
    operands = make_operands(**CASES[case])
    numbers = [list(n) if isinstance(n, tuple) else n for n in operands[5:]]
    there = [t is not None for t in operands[:4]]
    asked = [True, True, True, False, True]

    def call(grad, *tensors):
        given = iter(tensors)
        image, offset, mask, weight = (next(given) if t else None for t in there)
        backward = torch.ops.isda_suite.deform_conv2d_backward
        return backward(grad, image, offset, mask, weight, *numbers, asked)

    arguments = (grad_like_output(operands), *(t for t in operands[:4] if t is not None))
    traced = make_fx(call, decomposition_table=decomposition_table())(*arguments)
    assert not [n for n in traced.graph.nodes if 'isda_suite' in str(n.target)]
    for actual, expected in zip(traced(*arguments), call(*arguments), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


def test_the_decomposition_keeps_the_rules_of_sixteen_bits():
    operands = make_operands().to(torch.bfloat16, torch.float32)
    decomposed = decomposition_table()[torch.ops.isda_suite.deform_conv2d.default](*operands)
    assert decomposed.dtype == torch.bfloat16
    assert norm_error(decomposed, run('reference', operands)[0]) < 1e-3


def _model(operands, sizes=True, **options):
    return export_onnx(_export(operands, sizes), verbose=False, **options).model_proto


def _in_onnxruntime(model, inputs):
    from onnxruntime import InferenceSession

    session = InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    feed = {e.name: t.numpy() for e, t in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, feed)[0])


@needs_runtime
@needs_node
@pytest.mark.parametrize('case', CASES)
def test_onnx_has_a_standard_node_with_equal_results(case):
    """In onnxruntime, and by the evaluator that comes with the standard."""
    import onnx

    sizes = {**CASES[case], 'dtype': torch.float32}
    operands = make_operands(**sizes)
    model = _model(operands, sizes=False)
    onnx.checker.check_model(model)
    (node,) = (n for n in model.graph.node if n.op_type == 'DeformConv')
    assert node.domain == '' and [o.version for o in model.opset_import if o.domain == ''] == [19]
    # Operands: X, W, offset, B, mask; trailing ones are left out.
    names = [*node.input, '', ''][:5]
    assert [name != '' for name in names[3:]] == [
        operands.bias is not None,
        operands.mask is not None,
    ]
    inputs = _inputs(make_operands(**sizes, images=3, seed=3))
    expected = Convolve(operands)(*inputs)
    torch.testing.assert_close(_in_onnxruntime(model, inputs), expected, rtol=1e-4, atol=1e-4)
    evaluator = onnx.reference.ReferenceEvaluator(model)
    feed = dict(zip(evaluator.input_names, (t.numpy() for t in inputs), strict=True))
    found = torch.from_numpy(evaluator.run(None, feed)[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@needs_runtime
def test_onnx_without_the_node_on_request_for_any_size():
    operands = make_operands(dtype=torch.float32)
    model = _model(operands, composite=True, opset_version=18)
    assert 'DeformConv' not in {node.op_type for node in model.graph.node}
    inputs = _inputs(make_operands(images=3, size=(9, 11), seed=3, dtype=torch.float32))
    found = _in_onnxruntime(model, inputs)
    torch.testing.assert_close(found, Convolve(operands)(*inputs), rtol=1e-4, atol=1e-4)


@needs_runtime
@needs_node
def test_onnx_widens_sixteen_bits_rather_than_rounding_the_offsets():
    operands = make_operands().to(torch.bfloat16, torch.float32)
    model = _model(operands)
    (node,) = (n for n in model.graph.node if n.op_type == 'DeformConv')
    casts = {out: n for n in model.graph.node if n.op_type == 'Cast' for out in n.output}
    assert node.input[0] in casts and node.input[2] not in casts
    assert model.graph.output[0].type.tensor_type.elem_type == 16  # bfloat16


@needs_runtime
@needs_node
def test_an_operator_set_without_the_node_is_refused():
    with pytest.raises(ValueError, match=r'^opset_version: expected at least 19, .*got 18'):
        _model(make_operands(dtype=torch.float32), opset_version=18)
