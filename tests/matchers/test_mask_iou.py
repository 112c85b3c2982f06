"""The mask cost against the written-out formula."""

import pytest
import torch
from mmengine.structures import InstanceData

from isda_suite.matchers.mask_iou import MaskIoUCost, soft_mask_iou


def masks(count, seed, size_hw=(4, 5)):
    return torch.rand(count, *size_hw, generator=torch.Generator().manual_seed(seed))


def test_every_pair_has_intersection_over_union():
    pred, target = masks(3, 0), masks(2, 1)
    found = soft_mask_iou(pred, target)
    for q in range(3):
        for g in range(2):
            both = (pred[q] * target[g]).sum()
            want = both / (pred[q].sum() + target[g].sum() - both + 1e-6)
            assert torch.isclose(found[q, g], want)


def test_equal_binary_masks_give_one_and_disjoint_ones_zero():
    half = torch.zeros(1, 4, 4)
    half[:, :2] = 1
    assert soft_mask_iou(half, torch.cat([half, 1 - half])).tolist()[0] == pytest.approx([1, 0])


def test_no_targets_and_no_queries_give_empty_matrices():
    assert soft_mask_iou(masks(3, 0), masks(0, 0)).shape == (3, 0)
    assert soft_mask_iou(masks(0, 0), masks(2, 0)).shape == (0, 2)


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r'map size of pred_masks, \(4, 5\), got \(8, 10\)'):
        soft_mask_iou(masks(1, 0), masks(1, 1, (8, 10)))


def test_an_empty_target_costs_the_weight_whatever_the_query():
    cost = MaskIoUCost(weight=3.0)
    targets = InstanceData(masks=torch.zeros(1, 4, 5))
    assert cost(InstanceData(masks=masks(4, 2)), targets).tolist() == [[3.0]] * 4
