"""The bodies of the CUDA kernels, run serially on the host in blocks of every size.

The host watches the shared memory: reading what another thread wrote, or what nobody wrote, without
a barrier between is an error. The kernels themselves run in test_cuda.py.
"""

import pytest
import torch

from tests.ops.operands import grad_like_output, make_operands, needs_library, norm_error, run

pytestmark = needs_library
# Threads of a block, bytes of shared memory for its points, blocks of the grid.
LIMITS = [(32, 256, 1), (32, 2000, 7), (64, 4096, 3), (96, 1024, 2), (256, 16384, 10**6)]
FORTY_EIGHT = {'heads': 8, 'channels': 48}
BOUNDS = {torch.float32: 3e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 8e-3}


def _on_host(operands, grad, limits, deterministic=False):
    o = torch.ops.isda_suite
    output = o._ms_deform_attn_cuda_body_on_host(*operands, limits)
    gradients = o._ms_deform_attn_backward_cuda_body_on_host(
        grad, *operands, [True, True, True], deterministic, limits
    )
    return output, *gradients


def _check(operands, limits, dtype):
    grad = grad_like_output(operands)
    exact = run('reference', operands.to(torch.float64), grad.double())
    results = _on_host(operands, grad, limits)
    for actual, expected in zip(results, exact, strict=True):
        assert norm_error(actual, expected) < BOUNDS[dtype]
    return results


# Lanes of a group: 1, 2 of unequal width, 3, 5, 6, 7, 8, 12 (48 channels), 13 and more.
@pytest.mark.parametrize('channels', [1, 2, 4, 7, 12, 20, 24, 32, 48, 100])
@pytest.mark.parametrize('dtype', list(BOUNDS))
@pytest.mark.parametrize('limits', LIMITS[1:4])
def test_groups_of_any_size_agree_with_the_reference(channels, dtype, limits):
    half = dtype in (torch.float16, torch.bfloat16)
    operands = make_operands(queries=5, channels=channels)
    _check(operands.to(dtype, torch.float32 if half else dtype), limits, dtype)


@pytest.mark.parametrize('limits', LIMITS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_blocks_that_end_anywhere_agree_with_the_reference(limits, dtype):
    """Images, queries and heads of one block, points of one item in several chunks."""
    operands = make_operands(images=3, queries=5, points=3, **FORTY_EIGHT)
    _check(operands.to(dtype, torch.float32), limits, dtype)


@pytest.mark.parametrize('limits', LIMITS[1:])
def test_many_levels_and_points(limits):
    """37 levels of 6 points: 222 points, which no block holds at once."""
    shapes = [(3, 4)] * 36 + [(8, 20)]
    operands = make_operands(shapes, 1, 2, 2, 48, 6, dtype=torch.float32)
    _check(operands, limits, torch.float32)


@pytest.mark.parametrize('dtype, channels', [(torch.float32, 1024), (torch.float64, 1023)])
@pytest.mark.parametrize('limits', LIMITS[2:])
def test_more_channels_than_a_block_has_threads_for(dtype, channels, limits):
    operands = make_operands(images=1, queries=2, heads=2, channels=channels, dtype=dtype)
    _check(operands, limits, dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_the_size_of_blocks_changes_no_bit_of_the_output(dtype):
    operands = make_operands(queries=7, points=5, **FORTY_EIGHT).to(dtype, torch.float32)
    grad = grad_like_output(operands)
    first, *others = (_on_host(operands, grad, limits, True) for limits in LIMITS)
    for other in others:
        assert torch.equal(first[0], other[0])
        # Neither of a sum in integers.
        assert torch.equal(first[1], other[1])


@pytest.mark.parametrize('points_dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('weights_dtype', [torch.float32, torch.float16])
def test_locations_and_weights_have_their_own_dtypes(points_dtype, weights_dtype):
    operands = make_operands(channels=8).to(torch.float16)
    operands = operands._replace(
        sampling_locations=operands.sampling_locations.to(points_dtype),
        attention_weights=operands.attention_weights.to(weights_dtype),
    )
    results = _check(operands, (64, 4096, 3), torch.float16)
    assert [t.dtype for t in results[2:]] == [points_dtype, weights_dtype]


@pytest.mark.parametrize('offset', [1, 2, 4])
def test_channels_that_are_not_aligned_are_loaded_in_smaller_packs(offset):
    operands = make_operands(channels=8).to(torch.float16, torch.float32)
    value = operands.value
    shifted = torch.zeros(value.numel() + offset, dtype=value.dtype)[offset:].view(value.shape)
    shifted.copy_(value)
    grad = grad_like_output(operands)
    expected = _on_host(operands, grad, (64, 4096, 3))
    results = _on_host(operands._replace(value=shifted), grad, (64, 4096, 3))
    assert torch.equal(results[0], expected[0])
    for actual, other in zip(results, expected, strict=True):
        assert norm_error(actual, other) < 1e-6


@pytest.mark.parametrize('row_stride', [2**28 + 4, 2**29])
def test_rows_further_apart_than_32_bits_are_found(row_stride):
    """Four rows of a virtual tensor; only the pages that are touched exist."""
    operands = make_operands(((2, 2),), 1, 3, 2, 4, 3, dtype=torch.float32)
    storage = torch.empty(3 * row_stride + 8)
    far = storage.as_strided((1, 4, 2, 4), (4 * row_stride, row_stride, 4, 1))
    far.copy_(operands.value)
    grad = grad_like_output(operands)
    results = _on_host(operands._replace(value=far), grad, (64, 4096, 3))
    for actual, expected in zip(results, _on_host(operands, grad, (64, 4096, 3)), strict=True):
        assert norm_error(actual, expected) < 1e-6


def test_offsets_beyond_32_bits_inside_one_image_are_found():
    """Rows that lie close to each other, but so many that their bytes pass 2^32."""
    side = 2048
    operands = make_operands(((side, side),), 1, 0, 1, 1, 4, dtype=torch.float32)
    row = torch.randn(1, 1, 1, 512)
    locations = torch.rand(1, 3, 1, 1, 4, 2) * 0.8 + 0.1
    weights = torch.rand(1, 3, 1, 1, 4)
    storage = torch.empty(side * side * 512)
    value = storage.view(1, side * side, 1, 512)
    corners = (locations * side - 0.5).floor().long().flatten(0, 4)
    for x, y in corners.tolist():
        for at in (y * side + x, y * side + x + 1, (y + 1) * side + x, (y + 1) * side + x + 1):
            value[0, at] = row[0, 0]
    out = torch.ops.isda_suite._ms_deform_attn_cuda_body_on_host(
        value, operands.spatial_shapes, operands.level_start_index, locations, weights
    )
    expected = weights.sum((3, 4)) * row.view(1, 1, 512)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
