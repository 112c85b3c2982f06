"""The matcher against its formula written out, and its switches."""

import math

import pytest
import torch

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr.matching import match_layers, matched_slots
from isda_suite.registry import TASK_UTILS
from tests.methods.defvistr.clips import no_targets, outputs, targets


def build(**options):
    return TASK_UTILS.build(dict(type='isda_suite.SequenceHungarianAssigner', **options))


def first(**sizes):
    logits, boxes, _ = outputs(**sizes)
    return logits[0, 0], boxes[0, 0]


def written_out_cost(logits, boxes, clip, frames_of):
    """Loops over slots, instances and frames."""
    cost = torch.zeros(len(logits), len(clip))
    for i in range(len(logits)):
        for j in range(len(clip)):
            total = 0.0
            for t in frames_of(j):
                p = logits[i, t].softmax(0)[clip.labels[j, t]].item()
                a, b = boxes[i, t].tolist(), clip.boxes[j, t].tolist()
                l1 = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 4
                sides = [
                    min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2)
                    - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2)
                    for k in (0, 1)
                ]
                inter = math.prod(max(side, 0) for side in sides)
                union = a[2] * a[3] + b[2] * b[3] - inter
                total += -p + 5 * l1 - 2 * (inter + 1e-6) / (union + 1e-6)
            cost[i, j] = total / max(len(frames_of(j)), 1)
    return cost


@pytest.mark.parametrize('valid_only', [False, True])
def test_the_cost_is_the_written_out_formula(valid_only):
    logits, boxes = first()
    clip = targets([[1, 1, 1], [0, 1, 0], [0, 0, 0]])

    def frames_of(j):
        return clip.valid[j].nonzero().flatten().tolist() if valid_only else [0, 1, 2]

    got = build(cost_valid_only=valid_only).cost(logits, boxes, clip)
    torch.testing.assert_close(got, written_out_cost(logits, boxes, clip, frames_of))


def test_a_slot_that_equals_an_instance_takes_it():
    logits, boxes = first()
    clip = targets([[1, 1, 1], [1, 1, 1]])
    boxes[3], boxes[1] = clip.boxes[0], clip.boxes[1]
    match = build().assign(logits, boxes, clip)
    assert match.slots.tolist() == [1, 3]
    assert match.instances.tolist() == [1, 0]


def test_pairs_hold_only_the_frames_an_instance_is_in():
    clip = targets([[1, 0, 1], [0, 1, 0]])
    match = build().assign(*first(), clip)
    slots, instances, frames = match.pairs()
    assert len(slots) == 3
    found = sorted(zip(instances.tolist(), frames.tolist(), strict=True))
    assert found == [(0, 0), (0, 2), (1, 1)]
    assert slots.tolist() == sorted(slots.tolist())


def test_equal_slots_are_each_used_once():
    logits, boxes = first()
    logits[:], boxes[:] = logits[:1].clone(), boxes[:1].clone()
    clip = targets([[1, 1, 1]] * 3, labels=[2, 2, 2])
    match = build().assign(logits, boxes, clip)
    assert len(set(match.slots.tolist())) == 3
    assert sorted(match.instances.tolist()) == [0, 1, 2]


def test_more_instances_than_slots_fill_every_slot():
    match = build().assign(*first(slots=2), targets([[1, 1, 1]] * 4))
    assert match.slots.tolist() == [0, 1]


def test_no_instances_give_an_empty_matching():
    match = build().assign(*first(), no_targets())
    assert len(match) == 0
    assert match.frames.shape == (0, 3)
    assert all(len(part) == 0 for part in match.pairs())


def test_an_instance_in_no_frame_has_no_pair():
    match = build().assign(*first(), targets([[0, 0, 0], [1, 0, 0]]))
    assert match.instances.tolist() == [1]


def test_an_instance_in_no_frame_takes_no_slot_with_valid_frames_only():
    """With one slot, the cost of an absent instance must not decide."""
    logits, boxes = first(slots=1)
    match = build(cost_valid_only=True).assign(logits, boxes, targets([[0, 0, 0], [1, 0, 0]]))
    assert match.instances.tolist() == [1]


def test_valid_only_ignores_the_boxes_of_absent_frames():
    logits, boxes = first()
    clip, moved = targets([[1, 0, 0], [0, 1, 1]]), targets([[1, 0, 0], [0, 1, 1]])
    moved.boxes[~moved.valid] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    plain, valid_only = build(), build(cost_valid_only=True)
    assert torch.equal(valid_only.cost(logits, boxes, clip), valid_only.cost(logits, boxes, moved))
    assert not torch.allclose(plain.cost(logits, boxes, clip), plain.cost(logits, boxes, moved))


def test_the_valid_index_bug_takes_frames_by_position_in_the_list():
    logits, boxes = first()
    clip = targets([[1, 0, 1], [0, 1, 0]])
    boxes[0], boxes[1] = clip.boxes[1], clip.boxes[0]
    right = build().assign(logits, boxes, clip)
    wrong = build(valid_index_bug=True).assign(logits, boxes, clip)
    assert right.instances.tolist() == wrong.instances.tolist() == [1, 0]
    assert torch.equal(right.frames, clip.valid[[1, 0]])
    assert torch.equal(wrong.frames, clip.valid)


def test_outputs_that_are_not_finite_reach_the_loss_check():
    """A crash of the assignment would hide that the loss is NaN."""
    logits, boxes = first()
    match = build().assign(logits * math.nan, boxes, targets([[1, 1, 1]]))
    assert len(match) == 1


def test_slots_with_targets_are_listed_clip_after_clip():
    logits, boxes, _ = outputs(layers=2, clips=3)
    clips = [targets([[1, 1, 1], [1, 0, 0]]), no_targets(), targets([[0, 1, 0]])]
    matches = match_layers(build(), logits, boxes, clips)
    assert [len(layer) for layer in matches] == [3, 3]
    select = matched_slots(matches[-1])
    assert select[:, 0].tolist() == [0, 0, 2]
    assert select[:, 1].tolist() == [*matches[-1][0].slots, *matches[-1][2].slots]
    assert matched_slots([build().assign(*first(), no_targets())]).shape == (0, 2)


def test_another_clip_length_is_refused():
    with pytest.raises(ModelConfigError, match=r'expected 3 frames.*got 2'):
        build().assign(*first(), targets([[1, 1]]))


def test_a_label_without_logit_is_refused():
    with pytest.raises(ModelConfigError, match=r'class label 5.*num_classes=5'):
        build().assign(*first(classes=5), targets([[1, 1, 1]], labels=[5]))
