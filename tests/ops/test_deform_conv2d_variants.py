"""Threads and instruction sets: the first change no bit, the second only rounding."""

import pytest
import torch

from tests.ops.convolution_operands import make_operands, needs_library, norm_error, run

pytestmark = needs_library


@pytest.fixture
def keep_settings():
    threads = torch.get_num_threads()
    isa = torch.ops.isda_suite._cpu_isa()
    yield
    torch.set_num_threads(threads)
    torch.ops.isda_suite._use_cpu_isa(isa)


LARGE = {
    'several blocks': {'channels': 136, 'out_channels': 64, 'size': (30, 30), 'images': 1},
    'several images': {'channels': 24, 'out_channels': 24, 'size': (30, 30), 'images': 11},
    'groups': {'channels': 96, 'out_channels': 96, 'groups': 2, 'deform_groups': 4},
}


# Large enough to be split.
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('case', LARGE)
def test_results_do_not_depend_on_the_number_of_threads(keep_settings, case, dtype):
    sizes = {'size': (40, 40), 'images': 1, **LARGE[case]}
    operands = make_operands(**sizes).to(dtype, torch.float32)
    torch.set_num_threads(1)
    expected = run('compiled', operands)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        for a, b in zip(run('compiled', operands), expected, strict=True):
            assert torch.equal(a, b), f'{threads} threads'


@pytest.mark.parametrize('isa', ['generic', 'avx2', 'avx512'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('channels', [2, 26, 48])
def test_instruction_sets_agree(keep_settings, isa, dtype, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels, groups=2, out_channels=18)
    operands = operands.to(dtype, torch.float32 if half else dtype)
    torch.ops.isda_suite._use_cpu_isa('generic')
    expected = run('compiled', operands)
    try:
        torch.ops.isda_suite._use_cpu_isa(isa)
    except ValueError:
        pytest.skip(f'this processor has no {isa}')
    bound = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 1e-3}.get(dtype, 8e-3)
    for actual, reference in zip(run('compiled', operands), expected, strict=True):
        assert norm_error(actual, reference) < bound
