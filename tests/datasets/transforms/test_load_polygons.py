"""Polygons stay polygons, and no instance is lost for being a run of pixels."""

import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from isda_suite.datasets.transforms import LoadPolygons

SQUARE = [[2.0, 2, 8, 2, 8, 8, 2, 8]]
RUNS = {'size': [10, 12], 'counts': [0, 20, 100]}


def load(*masks, ignored=()):
    instances = [
        dict(bbox=[2, 2, 8, 8], bbox_label=0, ignore_flag=int(i in ignored), mask=mask)
        for i, mask in enumerate(masks)
    ]
    results = dict(img_shape=(10, 12), ori_shape=(10, 12), instances=instances)
    return LoadPolygons()(results)


def test_polygons_stay_polygons():
    found = load(SQUARE, SQUARE)
    assert isinstance(found['gt_masks'], PolygonMasks) and not found['gt_ignore_flags'].any()


def test_runs_make_the_masks_of_their_image_bitmaps_and_none_is_ignored():
    found = load(SQUARE, RUNS)
    assert isinstance(found['gt_masks'], BitmapMasks) and not found['gt_ignore_flags'].any()
    want = np.zeros((10, 12))
    want[:, :2] = 1
    assert np.array_equal(found['gt_masks'].masks[1], want)
    assert found['gt_masks'].masks[0].sum() == pytest.approx(36, abs=14)


def test_an_ignored_crowd_changes_nothing():
    found = load(SQUARE, RUNS, ignored=(1,))
    assert isinstance(found['gt_masks'], PolygonMasks)
    assert found['gt_ignore_flags'].tolist() == [False, True]
    assert isinstance(load()['gt_masks'], PolygonMasks)
