"""The fused operator as PyTorch sees it: fake kernels, autograd, compilation, export."""

import pytest
import torch
import torch._inductor.config
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

from isda_suite.ops import decomposition_table, info, ms_deform_attn_fused
from isda_suite.ops.ms_deform_attn_fused import OPERATOR
from tests.ops.fused_operands import FORMS, grad_like_output, make_operands, run
from tests.ops.operands import needs_library, norm_error

SHAPES = ((5, 7), (3, 4), (0, 3), (1, 1))


def _samples():
    small = {'queries': 3, 'heads': 2, 'channels': 3, 'points': 2, 'dtype': torch.float32}
    plain = make_operands(**small)
    boxes = make_operands(**small, coordinates=4, shared=True)
    yield 'contiguous', plain
    yield 'boxes', boxes
    yield 'strided', boxes.with_tensors(torch.stack([t] * 2, 2)[:, :, 0] for t in boxes.tensors)
    yield 'empty', make_operands(**{**small, 'queries': 0})
    yield 'mixed', plain.to(torch.bfloat16, torch.float32, torch.bfloat16, torch.float32)


@pytest.mark.parametrize('name', [name for name, _ in _samples()])
def test_opcheck(name):
    operands = dict(_samples())[name]
    value, shapes, _, *points = operands.requires_grad()
    flat = shapes.flatten().tolist()
    forward = torch.ops.isda_suite.ms_deform_attn_fused
    torch.library.opcheck(forward.default, tuple(operands.requires_grad()))
    torch.library.opcheck(forward.list, (value, flat, *points))
    grad = grad_like_output(operands)
    value, *points = operands.tensors
    backward = torch.ops.isda_suite.ms_deform_attn_fused_backward
    for mask in ([True, False, True, True], [False, True, False, False]):
        torch.library.opcheck(backward.default, (grad, *operands, mask))
        torch.library.opcheck(backward.list, (grad, value, flat, *points, mask))


@needs_library
@pytest.mark.parametrize('name', OPERATOR.schemas)
def test_schemas_of_library_and_fallback_are_the_same(name):
    packet, _, overload = name.partition('.')
    operator = getattr(getattr(torch.ops.isda_suite, packet), overload or 'default')
    schema = torch._C.parse_schema(f'isda_suite::{name}{OPERATOR.schemas[name]}')
    assert str(operator._schema) == str(schema)


@needs_library
def test_info_knows_it():
    assert info()['ops']['ms_deform_attn_fused']['cpu'] == 'compiled'


def test_meta_tensors_give_the_shape():
    operands = make_operands()
    meta = operands.with_tensors(t.to('meta') for t in operands.tensors)
    out = ms_deform_attn_fused(*meta)
    assert out.device.type == 'meta' and out.shape == (2, 6, 15)


@pytest.mark.parametrize('name', ['value', 'reference_points', 'attention_logits'])
def test_forward_mode_says_that_it_is_not_there(name):
    operands = make_operands()
    tangent = getattr(operands, name)
    with pytest.raises((NotImplementedError, RuntimeError), match='forward'):
        torch.func.jvp(
            lambda tensor: ms_deform_attn_fused(*operands._replace(**{name: tensor})),
            (tangent,),
            (tangent,),
        )


def test_modes_without_gradients():
    operands = make_operands().requires_grad()
    with torch.no_grad():
        assert not ms_deform_attn_fused(*operands).requires_grad
    with torch.inference_mode():
        assert ms_deform_attn_fused(*operands).is_inference()


@pytest.mark.parametrize('coordinates', [2, 4])
def test_compiles_as_one_graph_forward_and_backward_for_any_queries_and_sizes(coordinates):
    """One compilation serves every Q and S; Inductor checks the strides promised."""

    def step(value, shapes, starts, reference, offsets, logits):
        out = ms_deform_attn_fused(value * 2, shapes, starts, reference, offsets, logits)
        return out.square().sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend('inductor')
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    cases = [(9, ((5, 7), (3, 4))), (10, ((5, 7), (3, 4))), (12, ((6, 8), (4, 7)))]
    with torch._inductor.config.patch({'compile_threads': 1}):
        for queries, shapes in cases:  # sizes that no other axis has
            operands = make_operands(
                shapes, queries=queries, coordinates=coordinates, dtype=torch.float32
            ).requires_grad()
            expected = torch.autograd.grad(step(*operands), operands.tensors)
            actual = torch.autograd.grad(compiled(*operands), operands.tensors)
            for a, b in zip(actual, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert counter.frame_count == 1


class Attend(nn.Module):
    """The operator with its levels as tables, or as a list."""

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


def _operators(program):
    targets = [node.target for node in program.graph.nodes if node.op == 'call_function']
    return [str(target) for target in targets if isinstance(target, torch._ops.OpOverload)]


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_export_keeps_one_node_which_decomposes_to_plain_aten(overload, coordinates, shared):
    form = {'coordinates': coordinates, 'shared': shared}
    queries = torch.export.Dim('queries')
    program = torch.export.export(
        Attend(overload),
        make_operands(SHAPES, **form).tensors,
        dynamic_shapes=({}, *({1: queries} for _ in range(3))),
    )
    assert _operators(program) == [f'isda_suite.ms_deform_attn_fused.{overload}']
    plain = program.run_decompositions(decomposition_table())
    assert {name.partition('.')[0] for name in _operators(plain)} == {'aten'}
    for count in (6, 11):
        inputs = make_operands(SHAPES, queries=count, seed=count, **form).tensors
        expected = Attend(overload)(*inputs)
        for module in (program.module(), plain.module()):
            torch.testing.assert_close(module(*inputs), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('shapes', [SHAPES, ((0, 3),), ()])
def test_decomposed_gradients_are_the_operators(overload, coordinates, shared, shapes):
    operands = make_operands(shapes, coordinates=coordinates, shared=shared)
    _, sizes, starts, *_ = operands
    grad = grad_like_output(operands)
    tables = (sizes.flatten().tolist(),) if overload == 'list' else (sizes, starts)
    operator = getattr(torch.ops.isda_suite.ms_deform_attn_fused_backward, overload)

    def call(grad, value, *points):
        return operator(grad, value, *tables, *points, [True, True, False, True])

    arguments = (grad, *operands.tensors)
    traced = make_fx(call, decomposition_table=decomposition_table())(*arguments)
    assert not [n for n in traced.graph.nodes if 'isda_suite' in str(n.target)]
    expected = run('reference', operands, grad)[1:]
    found = traced(*arguments)
    assert found[2].numel() == 0
    for i in (0, 1, 3):
        torch.testing.assert_close(found[i], expected[i], rtol=1e-12, atol=1e-12)


def test_the_decomposition_keeps_the_rules_of_sixteen_bits():
    operands = make_operands().to(torch.bfloat16, torch.float32)
    decomposed = decomposition_table()[torch.ops.isda_suite.ms_deform_attn_fused.default](*operands)
    assert decomposed.dtype == torch.bfloat16
    assert norm_error(decomposed, run('reference', operands)[0]) < 1e-3
