"""Decoding of ISDA by hand-made cases."""

import pytest
import torch

from isda_suite.layers import mask_pasting
from isda_suite.layers.mask_pasting import paste_masks
from isda_suite.methods.isda.loss import downsample_masks
from isda_suite.methods.isda.postprocess import detect, mask_quality


def one_hot_case():
    """Two queries; channel 0 of the map is a left half, channel 1 a right half."""
    feature = torch.zeros(2, 8, 8)
    feature[0, :, :4], feature[0, :, 4:] = 1, -1
    feature[1] = -feature[0]
    kernels = 10 * torch.eye(2)
    logits = torch.tensor([[2.0, -3.0], [-3.0, 1.0]])
    return logits, kernels, feature


def test_masks_labels_and_scores_of_two_halves():
    found = detect(*one_hot_case(), (32, 32), (32, 32), max_per_img=2)
    assert found.labels.tolist() == [0, 1]
    assert found.masks[0, :, :16].all()
    assert not found.masks[0, :, 16:].any()
    assert torch.equal(found.masks[1], ~found.masks[0])
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0]).sigmoid(), atol=1e-3, rtol=0)


def test_a_query_can_be_found_with_two_classes():
    found = detect(*one_hot_case(), (32, 32), (32, 32), max_per_img=4)
    assert sorted(found.query_inds.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize('wanted', [1, 4, 1000])
def test_any_number_of_detections_per_image(wanted):
    found = detect(*one_hot_case(), (32, 32), (20, 50), max_per_img=wanted)
    assert len(found) == min(wanted, 4)
    assert found.masks.shape[1:] == (20, 50)


def test_no_detection_at_all_is_refused_and_threshold_may_leave_none():
    with pytest.raises(ValueError, match='max_per_img: expected at least 1, got 0'):
        detect(*one_hot_case(), (32, 32), (32, 32), max_per_img=0)
    found = detect(*one_hot_case(), (32, 32), (32, 32), score_thr=0.999)
    assert len(found) == 0
    assert found.masks.shape == (0, 32, 32)


def test_mask_quality_of_known_masks():
    masks = torch.zeros(2, 4, 4)
    masks[0, 0, :2] = torch.tensor([0.9, 0.7])
    masks[0, 1, 0] = 0.2
    torch.testing.assert_close(
        mask_quality(masks, 'foreground', 0.5), torch.tensor([0.8, 0.0]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        mask_quality(masks, 'all', 0.5), torch.tensor([0.6, 0.0]), atol=1e-4, rtol=0
    )
    assert mask_quality(masks, 'none', 0.5).tolist() == [1, 1]
    with pytest.raises(ValueError, match='mask_score: expected one of'):
        mask_quality(masks, 'mean', 0.5)


def test_chunked_pasting_equals_pasting_at_once(monkeypatch):
    masks = torch.rand(7, 12, 16)
    whole = paste_masks(masks, (45, 60), (101, 77), 0.5)
    monkeypatch.setattr(mask_pasting, 'CHUNK_VALUES', 1)
    assert torch.equal(paste_masks(masks, (45, 60), (101, 77), 0.5), whole)


def test_bilinear_targets_are_the_mean_of_the_centre_pixels():
    masks = torch.zeros(2, 6, 8, dtype=torch.uint8)
    masks[0, 1, 1] = 1
    masks[1, 0, 0] = 1
    small = downsample_masks(masks, (3, 3), 'bilinear')
    assert small.shape == (2, 3, 3)
    assert small[0].sum() == small[0, 0, 0] == 0.25
    assert small[1].sum() == 0, 'an object between the samples vanishes'
    assert downsample_masks(masks, (3, 3), 'area')[1, 0, 0] == 1 / 16
    reference = torch.nn.functional.interpolate(
        masks[:, None, :4].float(), scale_factor=0.25, mode='bilinear', align_corners=False
    )
    assert torch.equal(small[:, :1, :2], reference[:, 0])


def test_targets_larger_than_the_batch_are_refused():
    with pytest.raises(ValueError, match='pad_mask=True'):
        downsample_masks(torch.zeros(1, 40, 40), (8, 8), 'bilinear')
