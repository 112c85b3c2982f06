"""Which proposals answer for which targets: SimOTA as IDIP does it."""

from dataclasses import dataclass

import torch
from mmdet.models.task_modules.assigners import SimOTAAssigner
from mmdet.models.task_modules.assigners.match_cost import FocalLossCost
from mmdet.structures.bbox import bbox_overlaps, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.option_checks import require_at_least, require_one_of
from isda_suite.registry import TASK_UTILS

CENTER_SIZES = ('pred', 'gt')
# Added to the cost of a pair whose proposal is not inside the target and near its centre.
PENALTY = 1e5
_EPS = 1e-8


@dataclass
class Match:
    """The matching of one image in one stage.

    Attributes:
        proposal_inds: (P,) int64, matched proposals, ascending.
        gt_inds: (P,) int64, the target of each; a target may have several proposals or none.
    """

    proposal_inds: Tensor
    gt_inds: Tensor

    def __len__(self) -> int:
        """Return the number of matched proposals."""
        return len(self.proposal_inds)


@TASK_UTILS.register_module()
class IDIPAssigner(SimOTAAssigner):
    """Match several proposals with every target, by class, L1 and GIoU costs.

    Different from mmdet's assigner: other costs; the centre test uses the size of the predicted
    box in the place of a stride; without any candidate all proposals are candidates.

    Args:
        center_radius: Sizes that a proposal's centre may be away from the target's.
        candidate_topk: IoUs whose sum is the number of proposals of a target.
        cls_weight: Factor of the focal cost.
        l1_weight: Factor of the L1 cost of corners, as shares of the image.
        giou_weight: Factor of 1 - GIoU.
        alpha: Of the focal cost.
        gamma: Of the focal cost.
        center_size: Whose size the centre test measures in: ``'pred'`` (published) or ``'gt'``
            (DiffusionDet's rule).

    Raises:
        ModelConfigError: for an unknown ``center_size`` or no candidate.

    Source: SimOTA: YOLOX (arXiv:2107.08430), section 2.1; IDIP (doi 10.3233/FAIA230485).
    """

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        cls_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        center_size: str = 'pred',
    ) -> None:
        require_one_of('roi_head.assigner.center_size', center_size, CENTER_SIZES)
        require_at_least('roi_head.assigner.candidate_topk', candidate_topk, 1)
        super().__init__(
            center_radius=center_radius,
            candidate_topk=candidate_topk,
            # mmdet's own default names no scope, so it is found in that of the run only.
            iou_calculator=dict(type='mmdet.BboxOverlaps2D'),
        )
        self.focal_cost = FocalLossCost(alpha, gamma, eps=_EPS, weight=cls_weight)
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.center_size = center_size

    @torch.no_grad()
    def match(
        self, logits: Tensor, boxes: Tensor, gt: InstanceData, size_hw: tuple[int, int]
    ) -> Match:
        """Match the proposals of one image and one stage.

        Args:
            logits: (N, classes).
            boxes: (N, 4) xyxy in pixels, predicted.
            gt: ``bboxes`` (G, 4) xyxy in pixels and ``labels`` (G,); G may be 0.
            size_hw: Size of the image without padding.

        Returns:
            The matching; empty without targets.
        """
        if len(gt) == 0 or len(boxes) == 0:
            none = boxes.new_zeros(0, dtype=torch.long)
            return Match(none, none)
        boxes = boxes.float()
        candidates, cost, ious = self.pair_costs(logits.float(), boxes, gt, size_hw)
        matched = candidates.clone()  # written into
        # What is not finite cannot be sorted; the loss will say it.
        cost, ious = cost.nan_to_num(float('inf')), ious.nan_to_num(0)
        _, gt_inds = self.dynamic_k_matching(cost, ious, len(gt), matched)
        return Match(matched.nonzero().squeeze(1), gt_inds)

    def pair_costs(
        self, logits: Tensor, boxes: Tensor, gt: InstanceData, size_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the candidates and compute the cost of all pairs; arguments as :meth:`match`.

        Returns:
            Candidates (N,) bool; of the P candidates and the G targets the costs (P, G) and the
            IoUs (P, G).
        """
        candidates, both = self._candidates(boxes, gt.bboxes)
        if not candidates.any():
            candidates = torch.ones_like(candidates)
            both = both.new_ones(len(boxes), len(gt))
        logits, boxes = logits[candidates], boxes[candidates]
        height, width = size_hw
        sides = boxes.new_tensor([width, height, width, height])
        l1 = torch.cdist(boxes / sides, gt.bboxes / sides, p=1)
        giou = bbox_overlaps(boxes, gt.bboxes, mode='giou', eps=_EPS)
        ious = bbox_overlaps(boxes, gt.bboxes, mode='iou', eps=_EPS)
        cost = self.focal_cost(InstanceData(scores=logits), InstanceData(labels=gt.labels))
        cost = cost + self.l1_weight * l1 + self.giou_weight * (1 - giou) + PENALTY * ~both
        return candidates, cost, ious

    def _candidates(self, boxes: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which of N proposals are inside or near a target, and which pairs are both."""
        points = bbox_xyxy_to_cxcywh(boxes)
        if self.center_size == 'pred':
            # Compat: the predicted size, where SimOTA has a stride.
            return self.get_in_gt_and_in_center_info(points, gt_boxes)
        targets = bbox_xyxy_to_cxcywh(gt_boxes)
        points = points[:, None, :2]
        inside = ((points > gt_boxes[:, :2]) & (points < gt_boxes[:, 2:])).all(-1)
        near = ((points - targets[:, :2]).abs() < self.center_radius * targets[:, 2:]).all(-1)
        candidates = (inside | near).any(1)
        return candidates, (inside & near)[candidates]
