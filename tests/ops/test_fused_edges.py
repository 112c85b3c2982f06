"""The fused operator at borders, at numbers that are not finite, and with nothing."""

import warnings

import pytest
import torch

from tests.ops.fused_operands import (
    BACKENDS,
    FORMS,
    definition,
    grad_like_output,
    make_operands,
    run,
    run_forward,
)

NAN, INF = float('nan'), float('inf')


def _one_point(x, y, size=(4, 8), coordinates=2, channels=4, dtype=torch.float64):
    """One point at pixel coordinates (x, y), half of the way by the offset where that is exact."""
    operands = make_operands((size,), 1, 1, 1, channels, 1, coordinates, dtype=dtype)
    h, w = size
    reference, offset = torch.tensor([x + 0.5, y + 0.5, w, h], dtype=dtype), torch.zeros(2)
    if abs(x) < 100 and abs(y) < 100:
        reference[:2] -= 2
        offset += 2
    reference /= torch.tensor([w, h, w, h], dtype=dtype)
    if coordinates == 4:  # a box of half the level: an offset of one is a quarter of its width
        reference[2:] *= 0.5
        offset = offset / torch.tensor([w, h]) * 4
    return operands._replace(
        reference_points=reference[:coordinates].view(1, 1, 1, -1),
        sampling_offsets=offset.to(dtype).view(1, 1, 1, 1, 1, 2),
    )


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates', [2, 4])
@pytest.mark.parametrize(
    'x, y', [(-1, 1), (1, -1), (8, 1), (1, 4), (NAN, 1), (1, NAN), (INF, 1), (1, -INF), (1e30, 1)]
)
def test_a_point_outside_gives_exactly_nothing(backend, coordinates, x, y):
    for tensor in run(backend, _one_point(x, y, coordinates=coordinates)):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates', [2, 4])
@pytest.mark.parametrize('x, y', [(-0.999, 1), (7.999, 1), (1, -0.999), (1, 3.999)])
def test_a_point_just_inside_counts(backend, coordinates, x, y):
    operands = _one_point(x, y, coordinates=coordinates)
    output, grad_value, grad_reference, grad_offsets, _ = run(backend, operands)
    assert output.abs().min() > 0
    assert int((grad_value != 0).any(-1).sum()) > 0
    assert grad_reference.abs().max() > 0 and grad_offsets.abs().max() > 0


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', ['offset', 'box', 'reference'])
@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_numbers_that_are_not_finite_put_a_point_outside_and_spare_the_others(backend, name, bad):
    """Gradients stay finite, also those that a box or an offset is a factor of."""
    operands = make_operands(((5, 7), (3, 4)), 1, 3, 2, coordinates=4)
    reference = operands.reference_points.clone()
    offsets = operands.sampling_offsets.clone()
    if name == 'offset':
        offsets[0, 1, 0, 1, 2, 0] = bad
    else:
        reference[0, 1, 1, 2 if name == 'box' else 0] = bad
    poisoned = operands._replace(reference_points=reference, sampling_offsets=offsets)
    output, grad_value, grad_reference, grad_offsets, grad_logits = run(backend, poisoned)
    for tensor in (output, grad_value, grad_reference, grad_offsets, grad_logits):
        assert tensor.isfinite().all()
    assert grad_offsets[0, 1, 0, 1, 2].abs().max() == 0
    if name != 'offset':  # all points of this query on this level
        assert grad_reference[0, 1, 1].abs().max() == 0
        assert grad_offsets[0, 1, :, 1].abs().max() == 0
    others = [0, 2]
    assert torch.equal(output[0, others], run_forward(backend, operands)[0, others])


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('bad', [NAN, INF])
def test_pixels_that_are_no_neighbour_are_never_read(backend, bad):
    for x, y in [(2.25, 1.5), (-0.5, -0.5), (7.5, 3.5), (-0.5, 3.5), (9.0, 1.0), (7.0, 1.25)]:
        operands = _one_point(x, y, channels=20)
        x0, y0 = int(x // 1), int(y // 1)
        poisoned = torch.full_like(operands.value, bad).view(4, 8, 20)
        for cy in (y0, y0 + 1):
            for cx in (x0, x0 + 1):
                if 0 <= cx < 8 and 0 <= cy < 4 and x < 8:
                    poisoned[cy, cx] = operands.value.view(4, 8, 20)[cy, cx]
        with_poison = operands._replace(value=poisoned.view(1, 32, 1, 20))
        for a, b in zip(run(backend, with_poison), run(backend, operands), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_logits_without_a_softmax_give_nan_without_a_word(backend, bad):
    """All -infinity, or one that is NaN or +infinity: NaN for that query and head alone."""
    operands = make_operands(((6, 6),), 1, 2, 2, 3)
    middle = torch.full_like(operands.reference_points, 0.5)
    logits = operands.attention_logits.clone()
    logits[0, 1, 0] = bad
    operands = operands._replace(
        reference_points=middle,
        sampling_offsets=operands.sampling_offsets.clamp(-1, 1),
        attention_logits=logits,
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        output, _, _, grad_offsets, grad_logits = run(backend, operands)
    expected = definition(operands)
    assert torch.equal(output.isnan(), expected.isnan())
    assert output[0, 1, :3].isnan().all() and output[0, 0].isfinite().all()
    assert grad_logits[0, 1, 0].isnan().all() and grad_offsets[0, 1, 0].isnan().all()
    assert grad_logits[0, 0].isfinite().all() and grad_logits[0, 1, 1].isfinite().all()


@pytest.mark.parametrize('backend', BACKENDS)
def test_minus_infinity_switches_single_points_off(backend):
    operands = make_operands()
    logits = operands.attention_logits.clone()
    logits[..., 1] = -INF
    masked = operands._replace(attention_logits=logits)
    output, *_, grad_offsets, grad_logits = run(backend, masked)
    torch.testing.assert_close(output, definition(masked))
    for gradient in (grad_offsets[..., 1, :], grad_logits[..., 1]):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
def test_levels_of_one_pixel_and_of_none(backend, coordinates, shared):
    shapes = ((1, 1), (1, 6), (6, 1), (0, 5), (5, 0))
    operands = make_operands(shapes, coordinates=coordinates, shared=shared)
    results = run(backend, operands)
    for actual, expected in zip(results, run('reference', operands), strict=True):
        torch.testing.assert_close(actual, expected)
    _, _, grad_reference, grad_offsets, grad_logits = results
    assert grad_offsets[:, :, :, 3:].abs().max() == 0
    if not shared:
        assert grad_reference[:, :, 3:].abs().max() == 0
    # Their points still take part in the softmax.
    assert grad_logits[:, :, :, 3:].abs().max() > 0


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('coordinates, shared', FORMS)
@pytest.mark.parametrize(
    'empty', ['images', 'queries', 'heads', 'channels', 'points', 'levels', 'rows']
)
def test_an_empty_axis_gives_an_empty_or_zero_result(backend, coordinates, shared, empty):
    form = {'coordinates': coordinates, 'shared': shared}
    if empty in ('levels', 'rows'):
        operands = make_operands(() if empty == 'levels' else ((0, 3),), **form)
    else:
        operands = make_operands(**{empty: 0}, **form)
    output, *gradients = run(backend, operands)
    assert output.shape == grad_like_output(operands).shape
    assert [g.shape for g in gradients] == [t.shape for t in operands.tensors]
    for tensor in (output, *gradients):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
def test_gaps_between_levels_and_levels_that_overlap(backend):
    operands = make_operands(((3, 4), (2, 2)))
    rows = torch.randn(2, 40, 3, 5, dtype=torch.float64)
    apart = operands._replace(value=rows, level_start_index=torch.tensor([20, 5]))
    for actual, expected in zip(run(backend, apart), run('reference', apart), strict=True):
        torch.testing.assert_close(actual, expected)
    uncovered = [*range(5), *range(9, 20), *range(32, 40)]
    untouched = run(backend, apart)[1][:, uncovered]
    assert torch.equal(untouched, torch.zeros_like(untouched))
    shared = apart._replace(level_start_index=torch.tensor([20, 22]))
    torch.testing.assert_close(run_forward(backend, shared), definition(shared))
    for actual, expected in zip(run(backend, shared), run('reference', shared), strict=True):
        torch.testing.assert_close(actual, expected)
