"""No instance without a pixel reaches a loss."""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from isda_suite.datasets.transforms import DropEmptyMasks


def _sample(pixels, ignored):
    masks = np.zeros((len(pixels), 6, 7), dtype=np.uint8)
    for mask, count in zip(masks, pixels, strict=True):
        mask.reshape(-1)[:count] = 1
    return {
        'gt_masks': BitmapMasks(masks, 6, 7),
        'gt_bboxes': HorizontalBoxes(torch.arange(4.0 * len(pixels)).reshape(-1, 4)),
        'gt_bboxes_labels': np.arange(len(pixels)),
        'gt_ignore_flags': np.array(ignored, dtype=bool),
    }


def test_empty_masks_go_and_ignored_regions_stay():
    kept = DropEmptyMasks()(_sample([3, 0, 0, 1], [False, False, True, False]))
    assert kept['gt_bboxes_labels'].tolist() == [0, 2, 3]
    assert kept['gt_bboxes'].tensor[:, 0].tolist() == [0, 8, 12]
    assert kept['gt_ignore_flags'].tolist() == [False, True, False]
    assert kept['gt_masks'].to_ndarray().sum(axis=(1, 2)).tolist() == [3, 0, 1]


@pytest.mark.parametrize(('reject', 'left'), [(True, None), (False, 1)])
def test_a_sample_that_loses_its_last_instance_is_drawn_again(reject, left):
    result = DropEmptyMasks(reject_empty=reject)(_sample([0, 0], [False, True]))
    assert result is None if left is None else len(result['gt_masks']) == left


@pytest.mark.parametrize('sample', [{}, _sample([], []), _sample([0], [True])])
def test_samples_without_targets_pass(sample):
    count = len(sample.get('gt_masks', ()))
    assert len(DropEmptyMasks()(sample).get('gt_masks', ())) == count
