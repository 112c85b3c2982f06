"""The loss terms against their formulas written out."""

import pytest
import torch
import torch.nn.functional as F

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr import loss as loss_module
from isda_suite.methods.defvistr.loss import (
    LossSettings,
    count_boxes,
    detection_losses,
    generalised_iou_loss,
    mask_losses,
    sequence_losses,
)
from isda_suite.methods.defvistr.matching import (
    SequenceHungarianAssigner,
    match_layers,
    matched_slots,
)
from tests.methods.defvistr.clips import no_targets, outputs, targets

ONES = LossSettings(cls=1, bbox=1, giou=1, mask=1, dice=1)


def compute(outs, clips, settings=None):
    return sequence_losses(*outs, clips, SequenceHungarianAssigner(), settings)


def pairs_of(outs, clips, layer=-1):
    logits, boxes, _ = outs
    matches = match_layers(SequenceHungarianAssigner(), logits, boxes, clips)[layer]
    return [
        (b, int(k), int(g), int(t))
        for b, match in enumerate(matches)
        for k, g, t in zip(*match.pairs(), strict=True)
    ]


def test_names_of_all_layers():
    names = compute(outputs(layers=3), [targets([[1, 1, 1]])])
    terms = {'loss_cls', 'loss_bbox', 'loss_giou', 'cardinality_error'}
    want = terms | {'loss_mask', 'loss_dice', 'class_error'}
    want |= {f'd{i}.{term}' for i in (0, 1) for term in terms}
    assert set(names) == want


def test_the_class_loss_is_a_weighted_mean_over_all_outputs():
    outs, clips = outputs(clips=2), [targets([[1, 0, 1], [0, 1, 0]]), targets([[1, 1, 1]])]
    total = weight_sum = 0.0
    label_at = {(b, k, t): clips[b].labels[g, t] for b, k, g, t in pairs_of(outs, clips)}
    logits = outs[0][-1]
    for b, k, t in torch.cartesian_prod(*map(torch.arange, logits.shape[:3])).tolist():
        label = int(label_at.get((b, k, t), 6))
        weight = 0.1 if label == 6 else 1.0
        total -= weight * logits[b, k, t].log_softmax(0)[label]
        weight_sum += weight
    got = compute(outs, clips, ONES)['loss_cls']
    torch.testing.assert_close(got, total / weight_sum)


def test_box_and_mask_losses_are_sums_over_instances_and_frames_they_are_in():
    outs = outputs(clips=2)
    clips = [targets([[1, 0, 1], [0, 1, 0]]), targets([[1, 1, 1]], seed=3)]
    got = compute(outs, clips, ONES)
    bbox = focal = dice = 0.0
    for b, k, g, t in pairs_of(outs, clips):
        bbox += (outs[1][-1, b, k, t] - clips[b].boxes[g, t]).abs().sum()
        x = F.interpolate(outs[2][b, k, t][None, None], (15, 22), mode='bilinear')[0, 0]
        p, m = x.sigmoid(), clips[b].masks[g, t].float()
        right = p * m + (1 - p) * (1 - m)
        alpha = 0.25 * m + 0.75 * (1 - m)
        focal += (-alpha * (1 - right) ** 2 * right.log()).mean()
        dice += 1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
    divisor = 3 * 3  # three instances of three frames, absent ones counted
    torch.testing.assert_close(got['loss_bbox'], bbox / divisor)
    torch.testing.assert_close(got['loss_mask'], focal / divisor)
    torch.testing.assert_close(got['loss_dice'], dice / divisor)


def test_the_generalised_iou_of_boxes_apart():
    """Two unit squares with a gap of one: IoU 0, hull 3, union 2."""
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    others = torch.tensor([[2.0, 0, 3, 1], [0, 0, 1, 1]])
    got = generalised_iou_loss(boxes, others)
    torch.testing.assert_close(got, torch.tensor([4 / 3, 0.0]), atol=2e-6, rtol=0)


def test_weights_multiply_the_terms():
    outs, clips = outputs(), [targets([[1, 1, 1]])]
    plain = compute(outs, clips, ONES)
    weighted = compute(outs, clips)
    for name, factor in (('loss_bbox', 5), ('loss_giou', 2), ('d0.loss_bbox', 5), ('loss_mask', 1)):
        torch.testing.assert_close(weighted[name], factor * plain[name])


def test_the_normaliser_is_the_mean_over_ranks_and_at_least_one(monkeypatch):
    """As with a second rank whose clip has no instances; class losses stay those of the rank."""
    outs, clips = outputs(), [targets([[1, 1, 0]])]
    alone = compute(outs, clips)
    monkeypatch.setattr(loss_module, 'reduce_mean', lambda count: count / 2)
    both = compute(outs, clips)
    for name in ('loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice', 'd0.loss_bbox'):
        torch.testing.assert_close(both[name], 2 * alone[name])
    assert both['loss_cls'] == alone['loss_cls']
    assert count_boxes([no_targets()], outs[0]) == 1


def test_class_error_counts_matched_outputs_only():
    outs, clips = outputs(), [targets([[1, 1, 1], [1, 0, 0]])]
    pairs = pairs_of(outs, clips)
    right = [outs[0][-1, b, k, t].argmax() == clips[b].labels[g, t].item() for b, k, g, t in pairs]
    got = compute(outs, clips)
    assert got['class_error'].item() == pytest.approx(100 - 100 * sum(map(int, right)) / 4)


def test_cardinality_error_counts_absent_frames_as_wanted():
    logits, boxes, masks = outputs()
    logits[..., -1] += 100
    got = compute((logits, boxes, masks), [targets([[1, 0, 0]])])
    assert got['cardinality_error'].item() == 3


def test_no_instances_give_zero_losses_that_reach_every_output():
    outs = [x.requires_grad_() for x in outputs()]
    got = compute(outs, [no_targets()])
    for name in ('loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice', 'd0.loss_bbox'):
        assert got[name].item() == 0
    assert got['class_error'].item() == 100
    sum(v for n, v in got.items() if 'loss' in n).backward()
    assert all(x.grad is not None for x in outs)
    assert outs[0].grad.abs().sum() > 0


def test_gradient_reaches_every_term_of_a_matched_output():
    outs = [x.requires_grad_() for x in outputs()]
    clips = [targets([[1, 1, 1]])]
    got = compute(outs, clips)
    sum(v for n, v in got.items() if 'loss' in n).backward()
    for b, k, _, t in pairs_of([x.detach() for x in outs], clips):
        assert outs[0].grad[-1, b, k, t].abs().sum() > 0
        assert outs[1].grad[-1, b, k, t].abs().sum() > 0
        assert outs[2].grad[b, k, t].abs().sum() > 0


def test_absent_frames_have_neither_box_nor_mask_gradient():
    """An instance in one frame only: its slot learns box and mask there alone."""
    outs = [x.requires_grad_() for x in outputs(layers=1)]
    clips = [targets([[0, 1, 0]])]
    got = compute(outs, clips)
    sum(v for n, v in got.items() if 'loss' in n).backward()
    ((b, k, _, t),) = pairs_of([x.detach() for x in outs], clips)
    assert t == 1
    for grad in (outs[1].grad[-1], outs[2].grad):
        assert grad[b, k, t].abs().sum() > 0
        rest = grad.clone()
        rest[b, k, t] = 0
        assert rest.abs().sum() == 0


def test_two_steps_equal_one_and_chunks_change_nothing(monkeypatch):
    """Masks of matched slots alone, a frame at a time, give the loss and gradient of all."""
    clips = [targets([[1, 0, 1], [0, 1, 1]]), no_targets(), targets([[1, 1, 1]], seed=5)]
    logits, boxes, masks = outputs(clips=3)
    whole_masks = masks.clone().requires_grad_()
    whole = compute((logits, boxes, whole_masks), clips)
    (whole['loss_mask'] + whole['loss_dice']).backward()
    monkeypatch.setattr(loss_module, 'CHUNK_VALUES', 1)
    masks.requires_grad_()
    matches = match_layers(SequenceHungarianAssigner(), logits, boxes, clips)
    num_boxes = count_boxes(clips, logits)
    at = matched_slots(matches[-1]).unbind(-1)
    parts = detection_losses(logits, boxes, clips, matches, num_boxes)
    parts |= mask_losses(masks[at], clips, matches[-1], num_boxes)
    (parts['loss_mask'] + parts['loss_dice']).backward()
    assert set(parts) == set(whole)
    for name, value in parts.items():
        torch.testing.assert_close(value, whole[name])
    torch.testing.assert_close(masks.grad, whole_masks.grad)


def test_half_precision_outputs_give_float32_losses():
    outs = [x.bfloat16() for x in outputs()]
    got = compute(outs, [targets([[1, 1, 1]])])
    assert all(v.dtype == torch.float32 and v.isfinite() for v in got.values())


def test_boxes_alone_need_no_masks():
    logits, boxes, _ = outputs()
    clip = targets([[1, 1, 1]])
    clip.masks = None
    assert 'loss_mask' not in compute((logits, boxes, None), [clip])


def test_masks_of_another_size_are_refused():
    """The prediction must never stand in for a target that does not fit."""
    outs = outputs()
    with pytest.raises(ModelConfigError, match=r'\(12, 22\) pixels.*pad_mask'):
        compute(outs, [targets([[1, 1, 1]], size_hw=(12, 22))])


def test_missing_masks_are_refused():
    clip = targets([[1, 1, 1]])
    clip.masks = None
    with pytest.raises(ModelConfigError, match='with_mask=True'):
        compute(outputs(), [clip])


def test_masks_of_other_slots_than_the_matched_are_refused():
    logits, boxes, masks = outputs()
    clips = [targets([[1, 1, 1]])]
    matches = match_layers(SequenceHungarianAssigner(), logits, boxes, clips)
    with pytest.raises(ModelConfigError, match='1 matched slots'):
        mask_losses(masks[0], clips, matches[-1], count_boxes(clips, logits))
