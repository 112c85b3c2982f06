"""What happens at the border of the input, at numbers that are not finite, and with nothing."""

import pytest
import torch
import torch.nn.functional as F

from tests.ops.convolution_operands import (
    BACKENDS,
    Operands,
    grad_like_output,
    make_operands,
    norm_error,
    run,
    run_forward,
)

NAN, INF = float('nan'), float('inf')


def _one_point(y, x, channels=4, size=(4, 8)):
    """A 1x1 kernel whose single point is at pixel coordinates (y, x)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, *size, generator=generator, dtype=torch.float64)
    offset = torch.tensor([y, x], dtype=torch.float64).view(1, 2, 1, 1)
    mask = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    weight = torch.randn(3, channels, 1, 1, generator=generator, dtype=torch.float64)
    # The stride leaves one output: only the point's own coordinates matter.
    return Operands(image, offset, mask, weight, None, stride=size)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'y, x', [(1, -1), (-1, 1), (1, 8), (4, 1), (1, NAN), (NAN, 1), (1, INF), (-INF, 1), (1, 1e30)]
)
def test_a_point_outside_gives_exactly_nothing(backend, y, x):
    for tensor in run(backend, _one_point(y, x)):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('y, x', [(1, -0.999), (1, 7.999), (-0.999, 1), (3.999, 1)])
def test_a_point_just_inside_counts(backend, y, x):
    output, grad_input, grad_offset, grad_mask, _ = run(backend, _one_point(y, x))
    assert output.abs().min() > 0 and grad_mask.abs().min() > 0
    assert int((grad_input != 0).any(1).sum()) > 0
    assert grad_offset.abs().max() > 0


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_derivative_at_a_pixel_is_the_right_hand_one(backend):
    operands = _one_point(1, 2)
    gradients = run(backend, operands, torch.ones(1, 3, 1, 1, dtype=torch.float64))[2]
    pixels = torch.einsum('oc,chw->hw', operands.weight[:, :, 0, 0], operands.input[0]) * 0.7
    along = torch.stack([pixels[2, 2] - pixels[1, 2], pixels[1, 3] - pixels[1, 2]])
    torch.testing.assert_close(gradients.flatten(), along)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('bad', [NAN, INF])
def test_pixels_that_are_no_neighbour_are_never_read(backend, dtype, bad):
    """Poison every pixel but the neighbours of the point, inside and on each border."""
    for y, x in [(1.5, 2.25), (-0.5, -0.5), (3.5, 7.5), (3.5, -0.5), (1.0, 9.0), (1.25, 7.0)]:
        operands = _one_point(y, x, channels=20).to(dtype)
        poisoned = torch.full_like(operands.input, bad)
        y0, x0 = int(y // 1), int(x // 1)
        for cy in (y0, y0 + 1):
            for cx in (x0, x0 + 1):
                if 0 <= cx < 8 and 0 <= cy < 4 and x < 8:
                    poisoned[..., cy, cx] = operands.input[..., cy, cx]
        with_poison = operands._replace(input=poisoned)
        for a, b in zip(run(backend, with_poison), run(backend, operands), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('bad', [NAN, INF])
def test_a_mask_is_never_inspected(backend, bad):
    inside, outside = _one_point(1.5, 1.5), _one_point(1, -3)
    mask = torch.full_like(inside.mask, bad)
    assert not run_forward(backend, inside._replace(mask=mask)).isfinite().any()
    for tensor in run(backend, outside._replace(mask=mask)):
        assert torch.equal(tensor, torch.zeros_like(tensor))


@pytest.mark.parametrize('backend', BACKENDS)
def test_floor_works_in_double_precision(backend):
    """Just below a pixel, closer than single precision can tell."""
    operands = _one_point(1, 2 - 1e-9)
    grad = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    pixels = torch.einsum('oc,chw->hw', operands.weight[:, :, 0, 0], operands.input[0]) * 0.7
    slope = run(backend, operands, grad)[2].flatten()[1]
    torch.testing.assert_close(slope, pixels[1, 2] - pixels[1, 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('size', [(1, 1), (1, 5), (4, 1), (2, 2)])
def test_an_input_smaller_than_the_kernel_is_legal(backend, size):
    operands = make_operands(size=size, kernel=(3, 3), padding=(1, 1))
    still = operands._replace(
        offset=torch.zeros_like(operands.offset), mask=torch.ones_like(operands.mask)
    )
    plain = F.conv2d(still.input, still.weight, still.bias, padding=1)
    torch.testing.assert_close(run_forward(backend, still), plain)
    for actual, expected in zip(run(backend, operands), run('reference', operands), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('backend', BACKENDS)
def test_any_stride_padding_and_dilation(backend):
    for stride, padding, dilation in [
        ((3, 2), (5, 0), (2, 1)),
        ((1, 4), (0, 7), (3, 3)),
        ((9, 9), (4, 4), (4, 1)),
    ]:
        operands = make_operands(
            size=(9, 10), stride=stride, padding=padding, dilation=dilation, deform_groups=2
        )
        for actual, expected in zip(
            run(backend, operands), run('reference', operands), strict=True
        ):
            assert norm_error(actual, expected) < 1e-12


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'empty',
    [{'images': 0}, {'channels': 0}, {'size': (0, 5)}, {'out_channels': 0}],
    ids=lambda sizes: next(iter(sizes)),
)
def test_an_empty_axis_gives_the_bias_or_nothing(backend, empty):
    operands = make_operands(**empty, padding=(2, 2))
    output, *gradients = run(backend, operands)
    expected = operands.bias.view(1, -1, 1, 1).expand_as(output)
    assert torch.equal(output, expected)
    assert [g.shape for g in gradients] == [t.shape for t in operands.tensors]
    for gradient in gradients[:4]:
        assert torch.equal(gradient, torch.zeros_like(gradient))
    torch.testing.assert_close(gradients[4], grad_like_output(operands).sum((0, 2, 3)))


@pytest.mark.parametrize('backend', BACKENDS)
def test_every_element_of_the_results_is_written(backend):
    """Results are allocated from memory that held NaN just before."""
    operands = make_operands(channels=70, out_channels=9, deform_groups=2, size=(11, 11))
    for _ in range(3):
        garbage = [torch.full_like(t, NAN) for t in operands.tensors for _ in range(3)]
        del garbage
        for tensor in run(backend, operands):
            assert tensor.isfinite().all()
