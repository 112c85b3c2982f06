"""Threads and instruction sets: the first change no bit, the second only rounding."""

import pytest
import torch

from isda_suite.ops import info
from tests.ops.operands import make_operands, needs_library, norm_error, run

pytestmark = needs_library


@pytest.fixture
def keep_settings():
    threads = torch.get_num_threads()
    isa = torch.ops.isda_suite._cpu_isa()
    yield
    torch.set_num_threads(threads)
    torch.ops.isda_suite._use_cpu_isa(isa)


def _choose(isa):
    try:
        torch.ops.isda_suite._use_cpu_isa(isa)
    except ValueError:
        pytest.skip(f'this processor has no {isa}')


# Large enough to be split, with units of one level; then levels that overlap; then 16 bits; then
# so many points of a head that they are visited in runs, the bounds of which cut a level; then so
# few queries that heads are not copied.
@pytest.mark.parametrize('case', ['float32', 'overlapping', 'bfloat16', 'runs', 'in place'])
def test_results_do_not_depend_on_the_number_of_threads(keep_settings, case):
    shapes = ((40, 40), (20, 20), (10, 10))
    queries, points = {'runs': (600, 35), 'in place': (400, 35)}.get(case, (2400, 4))
    if case == 'in place':
        shapes = ((160, 160), (20, 20), (10, 10))
    operands = make_operands(shapes, 1, queries, 2, 20, points, dtype=torch.float32)
    if case == 'overlapping':
        operands = operands._replace(level_start_index=torch.tensor([0, 100, 200]))
    if case == 'bfloat16':
        operands = operands.to(torch.bfloat16, torch.float32)
    torch.set_num_threads(1)
    expected = run('compiled', operands)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        for a, b in zip(run('compiled', operands), expected, strict=True):
            assert torch.equal(a, b), f'{threads} threads'


@pytest.mark.parametrize('isa', ['generic', 'avx2', 'avx512'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('channels', [1, 13, 32, 48])
def test_instruction_sets_agree(keep_settings, isa, dtype, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels).to(dtype, torch.float32 if half else dtype)
    expected = run('reference', operands)
    _choose(isa)
    bound = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 1e-3}.get(dtype, 8e-3)
    for actual, reference in zip(run('compiled', operands), expected, strict=True):
        assert norm_error(actual, reference) < bound


def test_an_instruction_set_that_does_not_exist_is_named(keep_settings):
    with pytest.raises(
        ValueError, match=r'ISDA_OPS_CPU_ISA: expected one of .*generic.*, got sse9'
    ):
        torch.ops.isda_suite._use_cpu_isa('sse9')


def test_info_names_the_variant(keep_settings):
    torch.ops.isda_suite._use_cpu_isa('generic')
    report = info()
    assert report['cpu_isa'] == 'generic'
    assert report['ops']['ms_deform_attn']['cpu'] == 'compiled'
    assert report['built_for_torch'] == torch.__version__
