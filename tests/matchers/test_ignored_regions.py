"""Regions that are neither targets nor background."""

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from isda_suite.matchers import ignored_region, lies_in_region


def instances(masks, boxes):
    return InstanceData(masks=masks, bboxes=HorizontalBoxes(torch.tensor(boxes)))


def test_masks_are_painted_and_boxes_where_there_is_no_mask():
    masks = np.zeros((2, 6, 8), np.uint8)
    masks[0, :2, :3] = 1
    found = ignored_region(
        instances(BitmapMasks(masks, 6, 8), [[0.0, 0, 8, 6], [5.0, 3, 20, 5]]), (8, 12)
    )
    expected = torch.zeros(8, 12, dtype=torch.uint8)
    expected[:2, :3] = 1
    expected[3:5, 5:12] = 1
    assert torch.equal(found, expected)


def test_polygons_are_painted():
    square = np.array([2.0, 1, 6, 1, 6, 5, 2, 5])
    masks = PolygonMasks([[square]], 8, 8)
    found = ignored_region(instances(masks, [[2.0, 1, 6, 5]]), (8, 8))
    assert found[1:5, 2:6].all() and found.sum() == 16


def test_nothing_is_ignored_without_instances():
    assert ignored_region(None, (4, 4)) is None
    empty = instances(BitmapMasks(np.zeros((0, 4, 4), np.uint8), 4, 4), np.zeros((0, 4)).tolist())
    empty.bboxes = torch.zeros(0, 4)
    assert ignored_region(empty, (4, 4)) is None


def test_the_share_of_a_mask_inside_decides():
    region = torch.zeros(4, 4)
    region[:, :2] = 1
    masks = torch.zeros(3, 4, 4)
    masks[0, :, :2] = 1
    masks[1, :, 1:4] = 1  # a third lies inside
    assert lies_in_region(masks, region, 0.5).tolist() == [True, False, False]
    assert lies_in_region(masks, region, 0.3).tolist() == [True, True, False]
