"""Suppression and overlap of boxes against the definitions, written as loops."""

import math

import numpy as np
import pytest
import torch

import isda_suite  # noqa: F401  offers mmcv._ext


def overlap(a, b, offset=0):
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    common = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    whole = sum(areas) - common
    return common / whole if whole > 0 else 0.0


def greedy(boxes, scores, threshold, offset):
    order, kept = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    for i in order:
        if all(overlap(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.fixture
def boxes():
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(40, 2, generator=generator) * 30
    return torch.cat([corner, corner + 4 + torch.rand(40, 2, generator=generator) * 20], 1)


@pytest.fixture
def scores():
    return torch.rand(40, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_keeps_what_the_greedy_loop_keeps(boxes, scores, offset):
    from mmcv.ops import nms

    dets, kept = nms(boxes, scores, iou_threshold=0.3, offset=offset)
    assert kept.tolist() == greedy(boxes.tolist(), scores.tolist(), 0.3, offset)
    assert torch.equal(dets[:, :4], boxes[kept])


def test_nms_offset_decides_about_boxes_of_a_few_pixels():
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.1, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.1, offset=1)[1].tolist() == [0]


def test_nms_takes_no_boxes_and_half_precision(boxes, scores):
    from mmcv.ops import nms

    assert nms(boxes[:0], scores[:0], 0.5)[1].shape == (0,)
    expected = nms(boxes.bfloat16().float(), scores.bfloat16().float(), 0.5)[1]
    assert torch.equal(nms(boxes.bfloat16(), scores.bfloat16(), 0.5)[1], expected)


def test_batched_nms_of_mmcv_runs(boxes, scores):
    from mmcv.ops import batched_nms

    classes = torch.arange(40) % 2
    dets, kept = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.3))
    expected = set()
    for label in (0, 1):
        members = (classes == label).nonzero()[:, 0].tolist()
        inside = greedy(boxes[members].tolist(), scores[members].tolist(), 0.3, 0)
        expected |= {members[i] for i in inside}
    assert set(kept.tolist()) == expected
    assert (dets[:-1, 4] >= dets[1:, 4]).all()


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_follows_its_definition(boxes, scores, method, offset):
    from mmcv.ops import soft_nms

    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)

    left, values, expected = list(range(40)), scores.tolist(), []
    while left:
        best = max(left, key=lambda i: values[i])
        expected.append((best, values[best]))
        left.remove(best)
        for i in left:
            value = overlap(boxes[best].tolist(), boxes[i].tolist(), offset)
            linear = 1 - value if value >= 0.3 else 1
            naive = 0 if value >= 0.3 else 1
            weights = dict(naive=naive, linear=linear, gaussian=math.exp(-(value**2) / 0.5))
            values[i] *= weights[method]
        left = [i for i in left if values[i] >= 0.05]
    assert kept.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([v for _, v in expected]))
    assert torch.equal(dets[:, :4], boxes[kept])


def test_soft_nms_example_of_mmcv_with_boxes_without_area():
    from mmcv.ops import soft_nms

    corners = [[4, 3, 5, 3], [4, 3, 5, 4], *[[3, 1, 3, 1]] * 4]
    scores = np.array([0.9, 0.9, 0.5, 0.5, 0.4, 0.0], dtype=np.float32)
    dets, kept = soft_nms(np.array(corners, dtype=np.float32), scores, 0.6, sigma=0.5)
    assert len(kept) == len(dets) == 5


def test_nms_match_groups_every_box_once(boxes, scores):
    from mmcv.ops import nms_match

    groups = [g.tolist() for g in nms_match(torch.cat([boxes, scores[:, None]], 1), 0.3)]
    assert sorted(i for group in groups for i in group) == list(range(40))
    assert [group[0] for group in groups] == greedy(boxes.tolist(), scores.tolist(), 0.3, 0)
    for first, *rest in groups:
        assert all(overlap(boxes[first].tolist(), boxes[i].tolist()) >= 0.3 for i in rest)
        values = scores[[first, *rest]]
        assert (values[:-1] >= values[1:]).all()


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(boxes, mode, offset):
    from mmcv.ops import bbox_overlaps
    from mmcv.ops.bbox import _bbox_overlaps_cpu

    first, second = boxes[:7], boxes[7:14]
    for aligned in (False, True):
        found = bbox_overlaps(first, second, mode, aligned, offset)
        torch.testing.assert_close(found, _bbox_overlaps_cpu(first, second, mode, aligned, offset))
    assert bbox_overlaps(first[:0], second).shape == (0, 7)


def test_bbox_overlaps_of_boxes_without_area_is_zero_not_nan():
    from mmcv.ops import bbox_overlaps

    point = torch.tensor([[2.0, 2, 2, 2]])
    assert bbox_overlaps(point, point).item() == 0
