"""The fused kernels: threads change no bit, instruction sets only rounding; all is written."""

import pytest
import torch

from tests.ops.fused_operands import BACKENDS, FORMS, make_operands, run
from tests.ops.operands import needs_library, norm_error


@pytest.fixture
def keep_settings():
    threads = torch.get_num_threads()
    isa = torch.ops.isda_suite._cpu_isa()
    yield
    torch.set_num_threads(threads)
    torch.ops.isda_suite._use_cpu_isa(isa)


# Large enough to be split: by heads, then images and heads; levels that overlap; then 16 bits.
@needs_library
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('case', ['float32', 'images', 'overlapping', 'bfloat16'])
def test_results_do_not_depend_on_the_number_of_threads(keep_settings, case, coordinates, shared):
    images, heads = (3, 1) if case == 'images' else (1, 5)
    operands = make_operands(
        ((40, 40), (20, 20), (10, 10)),
        images,
        300,
        heads,
        20,
        4,
        coordinates,
        shared,
        dtype=torch.float32,
    )
    if case == 'overlapping':
        operands = operands._replace(level_start_index=torch.tensor([0, 100, 200]))
    if case == 'bfloat16':
        operands = operands.to(torch.bfloat16)
    torch.set_num_threads(1)
    expected = run('compiled', operands)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        for a, b in zip(run('compiled', operands), expected, strict=True):
            assert torch.equal(a, b), f'{threads} threads'


@needs_library
@pytest.mark.parametrize('isa', ['generic', 'avx2', 'avx512'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('coordinates, channels', [(2, 1), (2, 32), (4, 13), (4, 48)])
def test_instruction_sets_agree(keep_settings, isa, dtype, coordinates, channels):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(channels=channels, coordinates=coordinates)
    operands = operands.to(dtype, torch.float32 if half else dtype)
    expected = run('reference', operands)
    try:
        torch.ops.isda_suite._use_cpu_isa(isa)
    except ValueError:
        pytest.skip(f'this processor has no {isa}')
    bound = {torch.float32: 4e-6, torch.float64: 1e-13, torch.float16: 1e-3}.get(dtype, 8e-3)
    for actual, reference in zip(run('compiled', operands), expected, strict=True):
        assert norm_error(actual, reference) < bound


@pytest.fixture
def poisoned_memory():
    """New memory is filled with NaN, so what no kernel writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_every_element_of_every_result_is_written(
    poisoned_memory, backend, coordinates, shared, dtype
):
    assert torch.empty(4, dtype=dtype).isnan().all()
    shapes = ((5, 7), (3, 4), (0, 3))
    operands = make_operands(shapes, points=3, coordinates=coordinates, shared=shared)
    for result in run(backend, operands.to(dtype)):
        assert result.isfinite().all()


@needs_library
@pytest.mark.parametrize('coordinates', [2, 4])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_forward_pass_makes_no_arrays_of_points(coordinates, dtype):
    """What it allocates is the output, a workspace and one head, also beside 16-bit projections."""
    operands = make_operands(
        ((20, 20), (10, 10)), 1, 200, 8, 8, 4, coordinates, dtype=torch.float32
    ).to(dtype)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        output = torch.ops.isda_suite.ms_deform_attn_fused(*operands)
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    output_bytes = output.numel() * output.element_size()
    rows, channels = operands.value.shape[1], operands.value.shape[3]
    workspace_bytes = 4096 + rows * channels * 4  # so little work is for one thread
    assert output_bytes <= allocated <= output_bytes + workspace_bytes
    assert operands.attention_logits.numel() * 2 > workspace_bytes
