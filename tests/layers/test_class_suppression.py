"""Suppression in graphs keeps what mmcv's does."""

import pytest
import torch
from mmcv.ops import batched_nms

from isda_suite.layers.class_suppression import survivors


@pytest.mark.parametrize('count', [0, 40])
def test_the_survivors_are_those_of_mmcv(count):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + 5 + torch.rand(60, 2, generator=generator) * 20], 1)
    scores = torch.rand(60, generator=generator)
    labels = torch.arange(60) % 3
    valid = torch.arange(60) < count
    found = survivors(boxes, scores, labels, valid, 0.4)
    expected = torch.zeros(60, dtype=torch.bool)
    if count:
        rows = [one[valid] for one in (boxes, scores, labels)]
        expected[batched_nms(*rows, dict(type='nms', iou_threshold=0.4))[1]] = True
        assert 3 < expected.sum() < count
    assert torch.equal(found, expected)
