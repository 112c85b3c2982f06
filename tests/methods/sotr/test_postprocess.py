"""Decoding of SOTR by hand-made cases."""

import pytest
import torch

from isda_suite.methods.sotr.postprocess import detect, hard_mask_nms, point_nms

GRIDS = (4, 2)


def halves(cells):
    """Make two levels and the map of a left half; cells: (level, row, column, class, logit)."""
    feature = torch.full((1, 8, 8), -1.0)
    feature[:, :, :4] = 1
    logits = [torch.full((2, g, g), -9.0) for g in GRIDS]
    kernels = [torch.full((1, g, g), 9.0) for g in GRIDS]
    for level, row, column, label, value in cells:
        logits[level][label, row, column] = value
    return logits, kernels, feature


def found_of(cells, **options):
    return detect(*halves(cells), (32, 32), (32, 32), (4, 8), **options)


def test_point_nms_looks_up_and_left_only():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.6, 0.2, 0.5], [0.6, 0.6, 0.1]])[None, None]
    wanted = torch.tensor([[0.1, 0.5, 0.0], [0.6, 0.0, 0.5], [0.6, 0.6, 0.0]])
    assert torch.equal(point_nms(scores)[0, 0], wanted)


def test_a_cell_gives_its_class_its_mask_and_its_place():
    found = found_of([(1, 1, 0, 1, 2.0)])
    assert found.labels.tolist() == [1] and found.labels.dtype == torch.long
    assert found.query_inds.tolist() == [16 + 2]
    assert found.masks[0, :, :16].all() and not found.masks[0, :, 16:].any()
    assert found.bboxes.tolist() == [[0, 0, 16, 32]]
    torch.testing.assert_close(found.scores, torch.tensor([2.0]).sigmoid(), atol=1e-3, rtol=0)


def test_equal_masks_decay_within_a_class_only():
    """The second of two equal masks is multiplied by exp(-2)."""
    cells = [(0, 1, 1, 0, 3.0), (0, 3, 3, 0, 2.0), (0, 2, 2, 1, 2.5)]
    found = found_of(cells, filter_thr=0.0)
    first, other, second = torch.tensor([3.0, 2.5, 2.0]).sigmoid()
    wanted = torch.stack([first, other, second * torch.exp(torch.tensor(-2.0))])
    torch.testing.assert_close(found.scores, wanted, atol=1e-3, rtol=0)
    assert found.labels.tolist() == [0, 1, 0]
    hard = found_of(cells, kernel='hard')
    assert hard.labels.tolist() == [0, 1]
    torch.testing.assert_close(hard.scores, wanted[:2], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ('cells', 'options'),
    [
        ([], {}),
        ([], dict(kernel='hard')),
        ([(0, 0, 0, 0, 2.0)], dict(score_thr=0.99)),
        ([(0, 0, 0, 0, 2.0)], dict(mask_thr=0.99999)),
        ([(0, 0, 0, 0, 2.0)], dict(filter_thr=0.999)),
    ],
)
def test_no_detection_is_an_empty_result_of_the_same_kind(cells, options):
    found = found_of(cells, **options)
    assert len(found) == 0
    assert found.masks.shape == (0, 32, 32) and found.masks.dtype == torch.bool
    assert found.labels.dtype == torch.long
    assert found.bboxes.shape == (0, 4)


def test_masks_not_larger_than_the_stride_of_their_level_are_dropped():
    logits, kernels, feature = halves([(0, 0, 0, 0, 2.0), (1, 0, 0, 1, 2.0)])
    feature[:] = -1
    feature[0, 0, :6] = 1
    found = detect(logits, kernels, feature, (32, 32), (32, 32), (4, 8))
    assert found.labels.tolist() == [0], 'six pixels are enough for the first level alone'


def test_hard_suppression_by_a_dropped_mask_does_not_count():
    """B overlaps A and C; A drops B, and C, which only B overlaps, stays."""
    masks = torch.zeros(3, 1, 12, dtype=torch.bool)
    masks[0, 0, :6] = masks[1, 0, 1:8] = masks[2, 0, 3:10] = True
    scores, keep = hard_mask_nms(
        masks, torch.zeros(3), torch.tensor([0.9, 0.8, 0.7]), iou_thr=0.4, nms_pre=500, max_num=9
    )
    assert keep.tolist() == [0, 2]
    _, best = hard_mask_nms(masks, torch.zeros(3), scores.new_tensor([1, 2, 3]), 0.4, 500, 1)
    assert best.tolist() == [2]


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match=r"test_cfg\.kernel: expected one of .*got 'soft'"):
        found_of([], kernel='soft')
