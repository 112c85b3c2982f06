"""CARAFE, masked convolution, PSA masks and deformable attention against loops."""

import pytest
import torch
import torch.nn.functional as F

import isda_suite  # noqa: F401  offers mmcv._ext


def rand(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def indices(*sizes):
    return torch.cartesian_prod(*[torch.arange(size) for size in sizes]).tolist()


@pytest.mark.parametrize('groups', [1, 2])
def test_carafe_equals_the_loop(groups):
    from mmcv.ops import carafe, carafe_naive

    features, masks = rand(2, 4, 3, 4), rand(2, groups * 9, 6, 8, seed=1)
    expected = torch.zeros(2, 4, 6, 8, dtype=torch.double)
    for b, c, y, x in indices(2, 4, 6, 8):
        group = c // (4 // groups)
        for k in range(9):
            row, column = y // 2 + k // 3 - 1, x // 2 + k % 3 - 1
            if 0 <= row < 3 and 0 <= column < 4:
                expected[b, c, y, x] += features[b, c, row, column] * masks[b, group * 9 + k, y, x]
    torch.testing.assert_close(carafe(features, masks, 3, groups, 2), expected)
    torch.testing.assert_close(carafe_naive(features, masks, 3, groups, 2), expected)


def test_carafe_gradients():
    from mmcv.ops import carafe

    inputs = rand(2, 4, 3, 4).requires_grad_(), rand(2, 18, 6, 8, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, m: carafe(f, m, 3, 2, 2), inputs)


@pytest.mark.parametrize('padding', [0, 1, (1, 0)])
def test_masked_convolution_computes_the_chosen_positions_only(padding):
    from mmcv.ops import MaskedConv2d

    torch.manual_seed(0)
    layer = MaskedConv2d(3, 4, 3, padding=padding).double()
    x = rand(1, 3, 6, 7)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=padding)
    height, width = expected.shape[2:]
    mask = torch.zeros(1, 6, 7)
    mask[0, :height, :width] = (rand(height, width, seed=3) > 0).float()
    chosen = mask[:, None, :height, :width] > 0
    torch.testing.assert_close(layer(x, mask), expected * chosen)
    assert chosen.any()
    assert not chosen.all()
    assert (layer(x, torch.zeros_like(mask)) == 0).all()


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
@pytest.mark.parametrize('window', [(3, 5), (5, 7)])
def test_psa_mask_equals_the_loop(kind, window):
    from mmcv.ops import PSAMask

    rows, columns = window
    weights = rand(2, rows * columns, 3, 4)
    expected = torch.zeros(2, 12, 3, 4, dtype=torch.double)
    for b, h, w, i, j in indices(2, 3, 4, rows, columns):
        y, x = h + i - (rows - 1) // 2, w + j - (columns - 1) // 2
        if 0 <= y < 3 and 0 <= x < 4:
            value = weights[b, i * columns + j, h, w]
            if kind == 'collect':
                expected[b, y * 4 + x, h, w] = value
            else:
                expected[b, h * 4 + w, y, x] = value
    torch.testing.assert_close(PSAMask(kind, window)(weights), expected)


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psa_mask_gradient(kind):
    from mmcv.ops import PSAMask

    weights = rand(2, 15, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(PSAMask(kind, (3, 5)), weights)


@pytest.mark.parametrize('dtype, tolerance', [(torch.double, 1e-10), (torch.float, 1e-5)])
def test_deformable_attention_and_its_gradients(dtype, tolerance):
    """mmcv calls the operator on accelerators only; here it is called as mmcv would."""
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = torch.tensor([[4, 5], [2, 3]])
    starts = torch.tensor([0, 20])
    value = rand(2, 26, 2, 4).to(dtype)
    locations = (rand(2, 3, 2, 2, 2, 2, seed=1) * 0.4 + 0.5).to(dtype)
    weights = rand(2, 3, 2, 2, 2, seed=2).softmax(-1).to(dtype)
    inputs = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    found = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    factors = rand(*expected.shape, seed=3).to(dtype)
    gradients = [torch.autograd.grad((v * factors).sum(), inputs) for v in (found, expected)]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
