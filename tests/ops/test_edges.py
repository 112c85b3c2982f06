"""What happens at the border of a level, at numbers that are not finite, and with nothing."""

import pytest
import torch

from tests.ops.operands import BACKENDS, make_operands, run, run_forward

NAN, INF = float('nan'), float('inf')


def _one_point(x, y, size=(4, 8), channels=4, dtype=torch.float64):
    """One point at pixel coordinates (x, y)."""
    operands = make_operands(
        (size,), images=1, queries=1, heads=1, channels=channels, points=1, dtype=dtype
    )
    h, w = size
    location = torch.tensor([(x + 0.5) / w, (y + 0.5) / h], dtype=dtype)
    return operands.with_locations(location.view(1, 1, 1, 1, 1, 2))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'x, y', [(-1, 1), (1, -1), (8, 1), (1, 4), (NAN, 1), (1, NAN), (INF, 1), (1, -INF), (1e30, 1)]
)
def test_a_point_outside_gives_exactly_nothing(backend, x, y):
    output, *gradients = run(backend, _one_point(x, y))
    for tensor in (output, *gradients):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('x, y', [(-0.999, 1), (7.999, 1), (1, -0.999), (1, 3.999)])
def test_a_point_just_inside_counts(backend, x, y):
    output, grad_value, grad_locations, _ = run(backend, _one_point(x, y))
    assert output.abs().min() > 0
    assert int((grad_value != 0).any(-1).sum()) > 0
    assert grad_locations.abs().max() > 0


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_derivative_at_a_pixel_is_the_right_hand_one(backend):
    operands = _one_point(2, 1)
    grad = torch.ones(1, 1, 4, dtype=torch.float64)
    gradients = run(backend, operands, grad)[2]
    pixels = operands.value.view(4, 8, 4).sum(-1)
    weight = operands.attention_weights.item()
    along_x = weight * 8 * (pixels[1, 3] - pixels[1, 2])
    along_y = weight * 4 * (pixels[2, 2] - pixels[1, 2])
    torch.testing.assert_close(gradients.flatten(), torch.stack([along_x, along_y]))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('bad', [NAN, INF])
def test_pixels_that_are_no_neighbour_are_never_read(backend, dtype, bad):
    """Poison every row but the neighbours of the points, for points inside and on each border."""
    for x, y in [(2.25, 1.5), (-0.5, -0.5), (7.5, 3.5), (-0.5, 3.5), (9.0, 1.0), (7.0, 1.25)]:
        operands = _one_point(x, y, channels=20).to(dtype, torch.float32)
        if dtype == torch.float64:
            operands = operands.to(dtype)
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
def test_a_weight_is_never_inspected(backend):
    inside, outside = _one_point(1.5, 1.5), _one_point(-3, 1)
    nan = torch.full_like(inside.attention_weights, NAN)
    assert run_forward(backend, inside._replace(attention_weights=nan)).isnan().all()
    for tensor in run(backend, outside._replace(attention_weights=nan)):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
def test_floor_works_in_double_precision(backend):
    """Just below a pixel, closer than single precision can tell."""
    operands = _one_point(2 - 1e-9, 1)
    pixels = operands.value.view(4, 8, 4)
    expected = operands.attention_weights.item() * pixels[1, 2]
    torch.testing.assert_close(
        run_forward(backend, operands).flatten(), expected, rtol=1e-7, atol=1e-7
    )
    grad = run(backend, operands, torch.ones(1, 1, 4, dtype=torch.float64))[2].flatten()[0]
    slope = operands.attention_weights.item() * 8 * (pixels[1, 2] - pixels[1, 1]).sum()
    torch.testing.assert_close(grad, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('backend', BACKENDS)
def test_levels_of_one_pixel_and_of_none(backend):
    shapes = ((1, 1), (1, 6), (6, 1), (0, 5), (5, 0))
    operands = make_operands(shapes)
    results = run(backend, operands)
    for actual, expected in zip(results, run('reference', operands), strict=True):
        torch.testing.assert_close(actual, expected)
    for gradient in results[2:]:
        assert torch.equal(gradient[:, :, :, 3:], torch.zeros_like(gradient[:, :, :, 3:]))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'empty', ['images', 'queries', 'heads', 'channels', 'points', 'levels', 'rows']
)
def test_an_empty_axis_gives_an_empty_or_zero_result(backend, empty):
    if empty in ('levels', 'rows'):
        operands = make_operands(() if empty == 'levels' else ((0, 3),))
    else:
        operands = make_operands(**{empty: 0})
    output, *gradients = run(backend, operands)
    b, _, m, c = operands.value.shape
    assert output.shape == (b, operands.sampling_locations.shape[1], m * c)
    inputs = (operands.value, operands.sampling_locations, operands.attention_weights)
    assert [g.shape for g in gradients] == [t.shape for t in inputs]
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
    for actual, expected in zip(run(backend, shared), run('reference', shared), strict=True):
        torch.testing.assert_close(actual, expected)
