"""torch.export: one node for the operator, and plain ATen on request; results stay the same."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from isda_suite.ops import MultiScaleDeformableAttention, decomposition_table, ms_deform_attn
from tests.ops.operands import grad_like_output, make_operands, norm_error, run

SHAPES = ((5, 7), (3, 4), (0, 3), (1, 1))


class Attend(nn.Module):
    """The operator with its levels as tables, or as a list."""

    def __init__(self, overload, shapes=SHAPES):
        super().__init__()
        self.overload = overload
        self.shapes = shapes
        sizes = torch.tensor(shapes)
        self.register_buffer('sizes', sizes)
        self.register_buffer('starts', sizes.prod(1).cumsum(0) - sizes.prod(1))

    def forward(self, value, locations, weights):
        if self.overload == 'list':
            return ms_deform_attn(value, self.shapes, None, locations, weights)
        return ms_deform_attn(value, self.sizes, self.starts, locations, weights)


def _inputs(queries=6, **arguments):
    value, _, _, locations, weights = make_operands(SHAPES, queries=queries, **arguments)
    return value, locations, weights


def _export(overload):
    """With any number of queries."""
    queries = torch.export.Dim('queries')
    axes = ({}, {1: queries}, {1: queries})
    return torch.export.export(Attend(overload), _inputs(), dynamic_shapes=axes)


def _operators(program):
    """Names of the operators called; arithmetic of sizes does not count."""
    targets = [node.target for node in program.graph.nodes if node.op == 'call_function']
    return [str(target) for target in targets if isinstance(target, torch._ops.OpOverload)]


@pytest.mark.parametrize('overload', ['default', 'list'])
def test_export_keeps_one_node(overload):
    program = _export(overload)
    assert _operators(program) == [f'isda_suite.ms_deform_attn.{overload}']
    # The table of torch leaves the operator alone.
    assert f'isda_suite.ms_deform_attn.{overload}' in _operators(program.run_decompositions())


@pytest.mark.parametrize('overload', ['default', 'list'])
def test_the_decomposition_is_plain_aten_with_equal_results(overload):
    program = _export(overload).run_decompositions(decomposition_table())
    assert {name.partition('.')[0] for name in _operators(program)} == {'aten'}
    for queries in (6, 11):
        inputs = _inputs(queries, seed=queries)
        torch.testing.assert_close(
            program.module()(*inputs), Attend(overload)(*inputs), rtol=1e-12, atol=1e-12
        )


LOADER = """
import sys, torch
from isda_suite.ops import decomposition_table  # the guard: operators and fakes are registered
program = torch.export.load(sys.argv[1])
inputs, expected = torch.load(sys.argv[2])
assert torch.equal(program.module()(*inputs), expected)
plain = program.run_decompositions(decomposition_table())
assert not [n for n in plain.graph.nodes if 'isda_suite' in str(n.target)]
torch.testing.assert_close(plain.module()(*inputs), expected, rtol=1e-12, atol=1e-12)
"""


@pytest.mark.parametrize('overload', ['default', 'list'])
def test_a_saved_program_runs_in_another_process(tmp_path, overload):
    inputs = _inputs(queries=9)
    torch.export.save(_export(overload), tmp_path / 'program.pt2')
    torch.save((inputs, Attend(overload)(*inputs)), tmp_path / 'inputs.pt')
    done = subprocess.run(
        [sys.executable, '-c', LOADER, str(tmp_path / 'program.pt2'), str(tmp_path / 'inputs.pt')],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('overload', ['default', 'list'])
@pytest.mark.parametrize('shapes', [SHAPES, ((0, 3),), ()])
def test_decomposed_gradients_are_the_operators(overload, shapes):
    operands = make_operands(shapes)
    value, sizes, starts, locations, weights = operands
    grad = grad_like_output(operands)
    tables = (sizes.flatten().tolist(),) if overload == 'list' else (sizes, starts)
    operator = getattr(torch.ops.isda_suite.ms_deform_attn_backward, overload)

    def call(grad, value, locations, weights):
        return operator(grad, value, *tables, locations, weights, [True, False, True])

    arguments = (grad, value, locations, weights)
    traced = make_fx(call, decomposition_table=decomposition_table())(*arguments)
    assert not [n for n in traced.graph.nodes if 'isda_suite' in str(n.target)]
    _, grad_value, _, grad_weights = run('reference', operands, grad)
    found = traced(*arguments)
    assert found[1].numel() == 0
    for actual, expected in ((found[0], grad_value), (found[2], grad_weights)):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_the_decomposition_keeps_the_rules_of_sixteen_bits():
    operands = make_operands().to(torch.bfloat16, torch.float32)
    decomposed = decomposition_table()[torch.ops.isda_suite.ms_deform_attn.default](*operands)
    assert decomposed.dtype == torch.bfloat16
    assert norm_error(decomposed, run('reference', operands)[0]) < 1e-3


def test_the_module_exports_with_tables_and_with_lists():
    module = MultiScaleDeformableAttention(16, 2, 2, 2).eval()
    query, value = torch.randn(4, 1, 16), torch.randn(47, 1, 16)
    points = torch.rand(1, 4, 2, 2)
    for shapes in (torch.tensor([[5, 7], [3, 4]]), [(5, 7), (3, 4)]):
        arguments = {'value': value, 'reference_points': points, 'spatial_shapes': shapes}
        program = torch.export.export(module, (query,), arguments)
        assert sum('isda_suite' in name for name in _operators(program)) == 1
        torch.testing.assert_close(program.module()(query, **arguments), module(query, **arguments))
