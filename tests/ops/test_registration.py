"""The operator as PyTorch sees it: fake kernels, autograd, compilation."""

import copy
import pickle

import pytest
import torch
import torch._inductor.config
from torch._dynamo.testing import CompileCounterWithBackend

from isda_suite.ops import MultiScaleDeformableAttention, ms_deform_attn
from isda_suite.ops.ms_deform_attn import OPERATOR
from tests.ops.operands import grad_like_output, make_operands, needs_library


def _samples():
    small = {'queries': 3, 'heads': 2, 'channels': 3, 'points': 2}
    plain = make_operands(**small, dtype=torch.float32)
    yield 'contiguous', plain
    yield 'strided', plain._replace(value=torch.stack([plain.value] * 2, 2)[:, :, 0])
    yield 'empty', make_operands(**{**small, 'queries': 0}, dtype=torch.float32)
    yield 'mixed', plain.to(torch.bfloat16, torch.float32)


@pytest.mark.parametrize('name', [name for name, _ in _samples()])
def test_opcheck(name):
    operands = dict(_samples())[name]
    with_grad = operands.requires_grad()
    value, shapes, _, locations, weights = with_grad
    flat = shapes.flatten().tolist()
    torch.library.opcheck(torch.ops.isda_suite.ms_deform_attn.default, tuple(with_grad))
    torch.library.opcheck(
        torch.ops.isda_suite.ms_deform_attn.list, (value, flat, locations, weights)
    )
    grad = grad_like_output(operands)
    mask = [True, False, True]
    value, shapes, starts, locations, weights = operands
    backward = torch.ops.isda_suite.ms_deform_attn_backward
    torch.library.opcheck(backward.default, (grad, value, shapes, starts, locations, weights, mask))
    torch.library.opcheck(backward.list, (grad, value, flat, locations, weights, mask))


@needs_library
@pytest.mark.parametrize('name', OPERATOR.schemas)
def test_schemas_of_library_and_fallback_are_the_same(name):
    packet, _, overload = name.partition('.')
    operator = getattr(getattr(torch.ops.isda_suite, packet), overload or 'default')
    schema = torch._C.parse_schema(f'isda_suite::{name}{OPERATOR.schemas[name]}')
    assert str(operator._schema) == str(schema)


def test_meta_tensors_give_the_shape():
    value, shapes, starts, locations, weights = make_operands()
    out = ms_deform_attn(
        value.to('meta'), shapes.to('meta'), starts, locations.to('meta'), weights.to('meta')
    )
    assert out.device.type == 'meta' and out.shape == (2, 6, 15)


def test_forward_mode_says_that_it_is_not_there():
    operands = make_operands()
    with pytest.raises((NotImplementedError, RuntimeError), match='forward'):
        torch.func.jvp(
            lambda value: ms_deform_attn(value, *operands[1:]),
            (operands.value,),
            (operands.value,),
        )


def test_modes_without_gradients():
    operands = make_operands().requires_grad()
    with torch.no_grad():
        assert not ms_deform_attn(*operands).requires_grad
    with torch.inference_mode():
        assert ms_deform_attn(*operands).is_inference()


def test_modules_can_be_copied_and_pickled():
    module = MultiScaleDeformableAttention(16, 2, 1, 2)
    query, points = torch.randn(3, 1, 16), torch.rand(1, 3, 1, 2)
    again = pickle.loads(pickle.dumps(copy.deepcopy(module))).eval()
    arguments = {'reference_points': points, 'spatial_shapes': [(1, 3)]}
    assert torch.equal(again(query, **arguments), module.eval()(query, **arguments))


def test_compiles_as_one_graph_forward_and_backward_for_any_number_of_queries():
    """One compilation serves every number of queries; Inductor checks the strides promised."""

    def step(value, shapes, starts, locations, weights):
        out = ms_deform_attn(value * 2, shapes, starts, locations, weights.softmax(-1))
        return out.square().sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend('inductor')
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    with torch._inductor.config.patch({'compile_threads': 1}):
        for queries in (9, 10, 12):  # sizes that no other axis has
            operands = make_operands(queries=queries, dtype=torch.float32).requires_grad()
            inputs = (operands[0], operands[3], operands[4])
            expected = torch.autograd.grad(step(*operands), inputs)
            actual = torch.autograd.grad(compiled(*operands), inputs)
            for a, b in zip(actual, expected, strict=True):
                torch.testing.assert_close(a, b)
    assert counter.frame_count == 1
