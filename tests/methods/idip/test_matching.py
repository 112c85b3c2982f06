"""The matching against loops, and its switch."""

import pytest
import torch
from mmengine.structures import InstanceData

from isda_suite.methods.idip.matching import PENALTY, IDIPAssigner

SIZE = (100, 200)


def random_case(seed, num=14, gts=3):
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        start = torch.rand(count, 2, generator=generator) * torch.tensor([150.0, 60])
        return torch.cat([start, start + 5 + 45 * torch.rand(count, 2, generator=generator)], 1)

    logits = torch.randn(num, 4, generator=generator)
    gt = InstanceData(bboxes=boxes(gts), labels=torch.randint(4, (gts,), generator=generator))
    return logits, boxes(num), gt


def iou(a, b):
    both = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both
    return both, union, both / union


def slow_cost(logit, box, gt_box, label, center_size):
    centre, gt_centre = (box[:2] + box[2:]) / 2, (gt_box[:2] + gt_box[2:]) / 2
    side = (box if center_size == 'pred' else gt_box)[2:] - (
        box if center_size == 'pred' else gt_box
    )[:2]
    inside = bool((centre > gt_box[:2]).all() and (centre < gt_box[2:]).all())
    near = bool(((centre - gt_centre).abs() < 2.5 * side).all())
    p = logit[label].sigmoid()
    focal = -0.25 * (1 - p) ** 2 * (p + 1e-8).log() + 0.75 * p**2 * (1 - p + 1e-8).log()
    l1 = ((box - gt_box).abs() / torch.tensor([200.0, 100, 200, 100])).sum()
    _, union, overlap = iou(box, gt_box)
    hull = (torch.maximum(box[2:], gt_box[2:]) - torch.minimum(box[:2], gt_box[:2])).prod()
    giou = overlap - (hull - union) / hull
    cost = 2 * focal + 5 * l1 + 2 * (1 - giou) + PENALTY * (not (inside and near))
    return inside or near, cost, overlap


@pytest.mark.parametrize('center_size', ['pred', 'gt'])
@pytest.mark.parametrize('seed', range(3))
def test_costs_and_candidates_are_those_of_the_formulas(center_size, seed):
    logits, boxes, gt = random_case(seed)
    assigner = IDIPAssigner(center_size=center_size)
    candidates, cost, ious = assigner.pair_costs(logits, boxes, gt, SIZE)
    slow = [
        [
            slow_cost(logit, box, g, label, center_size)
            for g, label in zip(gt.bboxes, gt.labels, strict=True)
        ]
        for logit, box in zip(logits, boxes, strict=True)
    ]
    assert candidates.tolist() == [any(one[0] for one in row) for row in slow]
    rows = [row for row, chosen in zip(slow, candidates, strict=True) if chosen]
    torch.testing.assert_close(
        cost, torch.tensor([[o[1] for o in r] for r in rows]), rtol=1e-5, atol=1e-3
    )
    torch.testing.assert_close(ious, torch.tensor([[o[2] for o in r] for r in rows]))


@pytest.mark.parametrize('seed', range(4))
def test_a_proposal_has_one_target_and_its_cheapest(seed):
    logits, boxes, gt = random_case(seed, num=20, gts=4)
    assigner = IDIPAssigner()
    match = assigner.match(logits, boxes, gt, SIZE)
    candidates, cost, ious = assigner.pair_costs(logits, boxes, gt, SIZE)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for j in range(len(gt)):
        k = max(1, int(ious[:, j].topk(min(10, len(ious))).values.sum()))
        taken[cost[:, j].argsort()[:k], j] = True
    rows = candidates.nonzero().flatten()
    want = []
    for row, place in enumerate(rows.tolist()):
        if taken[row].sum() == 1:
            want.append((place, int(taken[row].nonzero())))
        elif taken[row].any():
            want.append((place, int(cost[row].argmin())))
    assert list(zip(match.proposal_inds.tolist(), match.gt_inds.tolist(), strict=True)) == want


def test_without_targets_nothing_and_without_candidates_all_can_match():
    logits, boxes, gt = random_case(0)
    assert len(IDIPAssigner().match(logits, boxes, gt[:0], SIZE)) == 0
    slivers = torch.tensor([[190.0, 90, 190.5, 90.5]]).repeat(len(boxes), 1)
    one = InstanceData(bboxes=torch.tensor([[2.0, 2, 20, 20]]), labels=torch.tensor([1]))
    candidates, cost, _ = IDIPAssigner().pair_costs(logits, slivers, one, SIZE)
    assert candidates.all() and (cost < PENALTY).all()
    assert len(IDIPAssigner().match(logits, slivers, one, SIZE)) == 1
