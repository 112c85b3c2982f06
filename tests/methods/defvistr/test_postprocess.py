"""Results of one clip, by hand-made cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr import postprocess
from isda_suite.methods.defvistr.postprocess import clip_tracks

NO_OBJECT = 4  # three classes


def logits_of(probabilities):
    """Logits (K, T, 5) from {class index: probability} of every output; the rest is no object."""
    rows = []
    for slot in probabilities:
        for frame in slot:
            row = np.full(5, 1e-9)
            row[NO_OBJECT] = max(1 - sum(frame.values()), 1e-9)
            row[list(frame)] = list(frame.values())
            rows.append(row)
    return torch.tensor(np.log(np.maximum(rows, 1e-9)), dtype=torch.float32).view(
        len(probabilities), -1, 5
    )


def masks_of(slots, frames, on=None):
    """Mask logits (K, T, 4, 6), all -5; +5 at the top left of each (slot, frame) in ``on``."""
    masks = torch.full((slots, frames, 4, 6), -5.0)
    every = [(k, t) for k in range(slots) for t in range(frames)]
    for k, t in every if on is None else on:
        masks[k, t, :2, :3] = 5.0
    return masks


def decode(codes):
    return [None if code is None else coco_mask.decode(code) for code in codes]


def test_score_is_the_mean_over_all_frames_and_class_the_most_frequent():
    logits = logits_of([[{1: 0.6}, {2: 0.9}, {1: 0.3}]])
    found = clip_tracks(logits, masks_of(1, 3), 3, (16, 24))
    assert found.labels.tolist() == [0]
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.frame_labels.tolist() == [[0, 1, 0]]
    assert found.frame_scores[0].tolist() == pytest.approx([0.6, 0.9, 0.3])


def test_the_smallest_class_wins_a_tie():
    logits = logits_of([[{3: 0.9}, {2: 0.1}]])
    assert clip_tracks(logits, masks_of(1, 2), 2, (16, 24)).labels.tolist() == [1]


def test_only_frames_of_the_video_count():
    """A video of one frame, repeated to the clip length."""
    logits = logits_of([[{1: 0.6}, {2: 0.9}, {2: 0.9}]])
    found = clip_tracks(logits, masks_of(1, 3), 1, (16, 24))
    assert found.labels.tolist() == [0]
    assert found.scores.tolist() == pytest.approx([0.6])
    assert len(found.masks[0]) == 1


def test_a_slot_without_pixels_in_those_frames_is_dropped():
    logits = logits_of([[{1: 0.6}] * 3, [{2: 0.9}] * 3])
    found = clip_tracks(logits, masks_of(2, 3, [(0, 2), (1, 1)]), 2, (16, 24))
    assert found.labels.tolist() == [1]
    assert clip_tracks(logits, masks_of(2, 3, []), 2, (16, 24)).masks == []


def test_frames_below_the_null_score_are_null_and_empty_ones_are_not():
    logits = logits_of([[{1: 0.6}, {1: 0.0005}, {1: 0.6}]])
    found = clip_tracks(logits, masks_of(1, 3, [(0, 0), (0, 1)]), 3, (16, 24))
    masks = decode(found.masks[0])
    assert masks[0].any() and masks[1] is None and not masks[2].any()
    assert found.frame_areas.tolist()[0][1] > 0
    assert found.scores.tolist() == pytest.approx([1.2005 / 3])


def test_an_instance_with_pixels_in_null_frames_alone_stays():
    logits = logits_of([[{1: 0.6}, {1: 0.0005}]])
    found = clip_tracks(logits, masks_of(1, 2, [(0, 1)]), 2, (16, 24))
    assert found.masks[0][1] is None and len(found) == 1


def test_class_zero_is_dropped_or_kept_as_minus_one():
    logits = logits_of([[{0: 0.7, 2: 0.2}] * 2])
    found = clip_tracks(logits, masks_of(1, 2), 2, (16, 24))
    assert (found.labels.tolist(), found.scores.tolist()) == ([1], pytest.approx([0.2]))
    found = clip_tracks(logits, masks_of(1, 2), 2, (16, 24), drop_class_zero=False)
    assert (found.labels.tolist(), found.scores.tolist()) == ([-1], pytest.approx([0.7]))


def test_other_scores():
    logits = logits_of([[{1: 0.6}, {1: 0.0}, {1: 0.9}]])
    masks = masks_of(1, 3, [(0, 0), (0, 2)])

    def score(mode):
        return clip_tracks(logits, masks, 3, (16, 24), score=mode).scores.item()

    assert score('mean_shown') == pytest.approx(0.75)
    resized = F.interpolate(masks, (16, 24), mode='bilinear')
    inside = [resized[0, t].sigmoid()[resized[0, t] > 0].mean().item() for t in (0, 2)]
    assert score('mean_times_mask_quality') == pytest.approx(0.5 * sum(inside) / 2)


def test_masks_are_resized_directly_and_chunks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 5, 4, 6, generator=generator)
    logits = logits_of([[{1: 0.6}] * 5] * 2)
    whole = clip_tracks(logits, masks, 5, (17, 31), mask_thr=0.3)
    want = F.interpolate(masks, (17, 31), mode='bilinear').sigmoid() > 0.3
    for k in range(2):
        assert np.array_equal(np.stack(decode(whole.masks[k])), want[k].numpy())
    monkeypatch.setattr(postprocess, 'CHUNK_VALUES', 1)
    assert clip_tracks(logits, masks, 5, (17, 31), mask_thr=0.3).masks == whole.masks


def test_padding_is_cut_off_before_the_masks_are_resized():
    logits = logits_of([[{1: 0.6}]])
    masks = masks_of(1, 1)
    padded = F.pad(masks, (0, 2, 0, 3), value=9.0)
    found = clip_tracks(logits, padded, 1, (32, 48), img_shape=(14, 22))
    assert found.masks == clip_tracks(logits, masks, 1, (32, 48)).masks


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(score='best'), r"expected one of .*got 'best'"),
        (dict(mask_thr=1.0), r'expected a value in \(0, 1\), got 1.0'),
        (dict(num_frames=4), r'expected 1 to 3, the clip length, got 4'),
    ],
)
def test_impossible_options_are_refused(options, text):
    arguments = dict(num_frames=3, out_shape=(16, 24)) | options
    with pytest.raises(ModelConfigError, match=text):
        clip_tracks(logits_of([[{1: 0.6}] * 3]), masks_of(1, 3), **arguments)
