"""The box loss of AdelaiDet against numbers worked out by hand."""

import pytest
import torch

from isda_suite.losses import GIoUInStridesLoss


def test_two_boxes_by_hand():
    pred = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    target = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0]])
    # Intersection 1, union 7, enclosing 9; the second pair is equal.
    first = 1 - (2 / 8 - 2 / 9)
    loss = GIoUInStridesLoss(loss_weight=2.0)
    assert float(loss(pred, target)) == pytest.approx(2 * first / 2)
    weight = torch.tensor([3.0, 1.0])
    assert float(loss(pred, target, weight, avg_factor=4.0)) == pytest.approx(2 * 3 * first / 4)


def test_distant_boxes_have_a_gradient():
    pred = torch.tensor([[0.0, 0.0, 1.0, 1.0]], requires_grad=True)
    GIoUInStridesLoss()(pred, torch.tensor([[5.0, 5.0, 6.0, 6.0]])).backward()
    assert float(pred.grad.abs().sum()) > 0
