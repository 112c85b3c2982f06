"""Mask codes and decoding of SOLQ by hand-made cases."""

import pytest
import torch

from isda_suite.layers import mask_pasting
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_pasting import paste_into_boxes
from isda_suite.methods.solq.mask_code import DCTMaskCoder, binarise, dct_matrix, zigzag
from isda_suite.methods.solq.postprocess import detect


def test_the_transform_keeps_lengths_and_the_order_starts_as_written():
    matrix = dct_matrix(16)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16, dtype=torch.float64))
    assert zigzag(4, 6).tolist() == [[0, 0], [0, 1], [1, 0], [2, 0], [1, 1], [0, 2]]
    assert len({tuple(cell) for cell in zigzag(4, 16).tolist()}) == 16


def test_all_coefficients_restore_a_mask_and_few_lose_only_its_details():
    torch.manual_seed(0)
    masks = torch.rand(3, 16, 16) > 0.5
    whole = DCTMaskCoder(16, 256)
    torch.testing.assert_close(whole.decode(whole.encode(masks)), masks.float())
    few = DCTMaskCoder(16, 10)
    torch.testing.assert_close(few.encode(masks), whole.encode(masks)[:, :10])
    again = few.encode(few.decode(few.encode(masks)))
    torch.testing.assert_close(again, few.encode(masks))
    assert few.decode(torch.zeros(0, 10)).shape == (0, 16, 16)


def test_constant_values_give_no_mask():
    values = torch.stack([torch.full((4, 4), 0.7), torch.eye(4)])
    assert binarise(values).sum((1, 2)).tolist() == [0, 4]


def raw():
    """Two queries: the left half of a box that leaves the image, and all of a box but a corner."""
    coder = DCTMaskCoder(16, 256)
    masks = torch.zeros(2, 16, 16)
    masks[0, :, :8] = 1
    masks[1] = 1
    masks[1, 0, 0] = 0
    boxes = torch.tensor([[0.75, 0.5, 1.0, 0.5], [0.25, 0.25, 0.25, 0.25]])
    logits = torch.tensor([[2.0, -3.0], [-3.0, 1.0]])
    return logits, boxes, coder.encode(masks), coder


def test_a_sure_mask_can_count_for_the_score():
    """The first mask has values of one half only, which puts it behind the second one."""
    logits, boxes, codes, coder = raw()
    codes[0] /= 2
    published = detect(logits, boxes, codes, coder, (32, 64), max_per_img=2)
    found = detect(logits, boxes, codes, coder, (32, 64), max_per_img=2, mask_score='foreground')
    assert published.query_inds.tolist() == [0, 1] and found.query_inds.tolist() == [1, 0]
    torch.testing.assert_close(found.scores[1], 0.5 * published.scores[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores[0], published.scores[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(found.masks, published.masks[[1, 0]])
    assert torch.equal(found.bboxes, published.bboxes[[1, 0]])
    few = detect(logits, boxes, codes, coder, (32, 64), mask_score='foreground', score_thr=0.5)
    assert few.query_inds.tolist() == [1]
    with pytest.raises(ModelConfigError, match=r'test_cfg\.mask_score: expected one of'):
        detect(logits, boxes, codes, coder, (32, 64), mask_score='all')


def test_masks_are_pasted_into_whole_boxes_and_results_cut_at_the_image():
    found = detect(*raw(), (32, 64), max_per_img=2)
    assert found.labels.tolist() == [0, 1] and found.query_inds.tolist() == [0, 1]
    assert found.bboxes.tolist() == [[16, 8, 64, 24], [8, 4, 24, 12]]
    wanted = torch.zeros(32, 64, dtype=torch.bool)
    wanted[8:24, 16:48] = True
    assert (found.masks[0] ^ wanted).sum() <= 16, 'at most the column at the edge'
    assert int(found.masks[1].sum()) in range(16 * 8 - 2, 16 * 8 + 1)
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0]).sigmoid())
    whole = detect(*raw(), (32, 64), max_per_img=2, clip_boxes=False)
    assert whole.bboxes[0].tolist() == [16, 8, 80, 24]
    assert torch.equal(whole.masks, found.masks)


@pytest.mark.parametrize('wanted', [1, 3, 1000])
def test_any_number_of_detections_per_image(wanted):
    found = detect(*raw(), (20, 50), max_per_img=wanted)
    assert len(found) == min(wanted, 4)
    assert found.masks.shape[1:] == (20, 50)


def test_a_threshold_may_leave_none_and_none_at_all_is_refused():
    found = detect(*raw(), (32, 32), score_thr=0.999)
    assert found.masks.shape == (0, 32, 32) and found.bboxes.shape == (0, 4)
    with pytest.raises(ValueError, match='max_per_img: expected at least 1, got 0'):
        detect(*raw(), (32, 32), max_per_img=0)


def test_boxes_without_an_area_and_outside_the_image_stay_empty():
    boxes = torch.tensor([[4.0, 4, 4, 9], [40.0, 40, 50, 50], [-9.0, -9, -2, -2], [0.0, 0, 8, 8]])
    pasted = paste_into_boxes(torch.ones(4, 8, 8), boxes, (16, 16), 0.5)
    assert pasted.sum((1, 2)).tolist() == [0, 0, 0, 64]


def test_pasting_at_once_equals_pasting_one_by_one():
    """A GPU pastes whole images in chunks, a CPU around each box."""
    torch.manual_seed(1)
    masks, boxes = torch.rand(5, 8, 8), torch.rand(5, 4) * 16
    boxes[:, 2:] += boxes[:, :2]
    single = paste_into_boxes(masks, boxes, (20, 30), 0.5)
    plain = mask_pasting._do_paste_mask
    whole, _ = plain(masks[:, None], boxes, 20, 30, skip_empty=False)
    assert torch.equal(single, whole >= 0.5)
