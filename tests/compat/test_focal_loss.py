"""Focal losses against the formula, and their written-out derivatives against autograd."""

import pytest
import torch
import torch.nn.functional as F

import isda_suite  # noqa: F401  offers mmcv._ext

N, C = 12, 5
GAMMAS_ALPHAS = [(2.0, 0.25), (0.5, 0.6), (0.0, 0.5)]


@pytest.fixture
def logits():
    return 3 * torch.randn(N, C, dtype=torch.double, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def class_weight():
    return torch.linspace(0.5, 2, C, dtype=torch.double)


def sigmoid_formula(logits, target, gamma, alpha, weight=None):
    one_hot = F.one_hot(target, C + 1)[:, :C].double()  # class C is background
    p = logits.sigmoid()
    right = p * one_hot + (1 - p) * (1 - one_hot)
    balance = alpha * one_hot + (1 - alpha) * (1 - one_hot)
    loss = -balance * (1 - right) ** gamma * right.log()
    if weight is not None:
        loss = loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]
    return loss


def softmax_formula(logits, target, gamma, alpha, weight=None):
    right = logits.softmax(1).gather(1, target[:, None])[:, 0]
    loss = -alpha * (1 - right) ** gamma * right.log()
    return loss if weight is None else loss * weight[target]


@pytest.mark.parametrize('gamma, alpha', GAMMAS_ALPHAS)
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(logits, class_weight, gamma, alpha, weighted):
    from mmcv.ops import sigmoid_focal_loss

    target = torch.arange(N) % (C + 1)
    weight = class_weight if weighted else None
    logits.requires_grad_()
    found = sigmoid_focal_loss(logits, target, gamma, alpha, weight, 'none')
    expected = sigmoid_formula(logits, target, gamma, alpha, weight)
    torch.testing.assert_close(found, expected)
    factors = torch.rand(N, C, dtype=torch.double, generator=torch.Generator().manual_seed(6))
    gradients = [torch.autograd.grad((v * factors).sum(), logits)[0] for v in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('gamma, alpha', GAMMAS_ALPHAS)
@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss(logits, class_weight, gamma, alpha, weighted):
    from mmcv.ops import softmax_focal_loss

    target = torch.arange(N) % C
    weight = class_weight if weighted else None
    logits.requires_grad_()
    found = softmax_focal_loss(logits, target, gamma, alpha, weight, 'mean')
    expected = softmax_formula(logits, target, gamma, alpha, weight).mean()
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(v, logits)[0] for v in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_extreme_logits_stay_finite():
    from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]]).requires_grad_()
    for loss, target in (
        (sigmoid_focal_loss, torch.tensor([0, 2])),
        (softmax_focal_loss, torch.tensor([0, 0])),
    ):
        value = loss(logits, target, 0.5, 0.25, None, 'sum')
        (gradient,) = torch.autograd.grad(value, logits)
        assert value > 10
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_ignored_samples_of_the_softmax_loss_count_nothing(logits):
    from mmcv.ops import softmax_focal_loss

    logits.requires_grad_()
    target = torch.full((N,), -1)
    value = softmax_focal_loss(logits, target, 2.0, 0.25, None, 'sum')
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert (gradient == 0).all()


def test_no_samples():
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.zeros(0, C, requires_grad=True)
    value = sigmoid_focal_loss(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, 'sum')
    value.backward()
    assert value == 0
    assert logits.grad.shape == (0, C)


def test_the_loss_agrees_with_mmdets_python_version(logits):
    from mmcv.ops import sigmoid_focal_loss
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

    target = torch.arange(N) % (C + 1)
    one_hot = F.one_hot(target, C + 1)[:, :C]
    expected = py_sigmoid_focal_loss(logits, one_hot, reduction='none')
    found = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')
    torch.testing.assert_close(found, expected)
