"""Boxes around masks are mmdet's."""

import pytest
import torch
from mmdet.structures.mask import mask2bbox

from isda_suite.layers.mask_boxes import boxes_around


@pytest.mark.parametrize('share', [0.02, 0.5, 1.0])
def test_boxes_are_those_of_mmdet_also_around_empty_masks(share):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(30, 7, 9, generator=generator) < share
    masks[3] = False
    found = boxes_around(masks)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, mask2bbox(masks), rtol=0, atol=0)


def test_there_may_be_no_mask():
    assert boxes_around(torch.zeros(0, 5, 6, dtype=torch.bool)).shape == (0, 4)
