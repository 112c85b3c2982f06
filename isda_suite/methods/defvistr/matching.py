"""One-to-one matching of predicted with true instances over all frames of a clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import TASK_UTILS

from .targets import ClipTargets

BOX_EPS = 1e-6
# Stands for a cost that is not finite, so that it is the loss that becomes NaN and is reported.
LARGE_COST = 1e6


@dataclass
class SequenceMatch:
    """The matching of one clip: P pairs of a slot and an instance.

    Attributes:
        slots: (P,) int64, ascending.
        instances: (P,) int64, the instance of each slot.
        frames: (P, T) bool, the frames in which the pair has targets; at least one in each row.
    """

    slots: Tensor
    instances: Tensor
    frames: Tensor

    def __len__(self) -> int:
        """P."""
        return len(self.slots)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Spell out the matched (slot, frame) outputs: slots, instances and frames, each (R,)."""
        pair, frame = self.frames.nonzero(as_tuple=True)
        return self.slots[pair], self.instances[pair], frame


def box_overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute IoU and union of boxes that broadcast against each other.

    .. math:: \mathrm{IoU} = \frac{I + \epsilon}{U + \epsilon}, \quad \epsilon = 10^{-6}

    mmdet's overlaps bound the union from below instead, which is another number for small boxes.

    Args:
        boxes: (..., 4) xyxy.
        others: (..., 4) xyxy.

    Returns:
        IoU and U, both (...).
    """
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(
        boxes[..., :2], others[..., :2]
    )
    inter = sides.clamp(min=0).prod(-1)
    area, other_area = ((b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others))
    union = area + other_area - inter
    return (inter + BOX_EPS) / (union + BOX_EPS), union


@TASK_UTILS.register_module()
class SequenceHungarianAssigner:
    r"""Match slots to instances by class, box and overlap, averaged over the frames of a clip.

    .. math:: C_{ij} = -\frac{w_c}{T} \sum_t p_{it}[c_{jt}]
        + \frac{w_b}{4T} \sum_t \lVert b_{it} - \hat b_{jt} \rVert_1
        - \frac{w_o}{T} \sum_t \mathrm{IoU}(b_{it}, \hat b_{jt})

    Compat: absent frames take part, with label 0 and the zero box the data gave them (moved to
    the other border by a flip); ``cost_valid_only`` leaves them out.

    Args:
        cost_class: Weight of the class probability.
        cost_bbox: Weight of the L1 distance of cxcywh boxes.
        cost_iou: Weight of the plain IoU.
        cost_valid_only: Average over the frames the instance is in; instances that are in no
            frame then take no slot.
        valid_index_bug: Compat: VisTR takes the frames of instance p for the p-th matched pair,
            whatever instance that pair holds (fixed in DefVisTR).

    Source: VisTR (arXiv:2011.14503), section 3.2.
    """

    def __init__(
        self,
        cost_class: float = 1.0,
        cost_bbox: float = 5.0,
        cost_iou: float = 2.0,
        cost_valid_only: bool = False,
        valid_index_bug: bool = False,
    ) -> None:
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_iou = cost_iou
        self.cost_valid_only = cost_valid_only
        self.valid_index_bug = valid_index_bug

    @torch.no_grad()
    def cost(self, cls_logits: Tensor, boxes: Tensor, targets: ClipTargets) -> Tensor:
        """Compute the cost matrix, in float32 or better.

        Args:
            cls_logits: (K, T, num_classes + 2).
            boxes: (K, T, 4) cxcywh.
            targets: G instances of T frames; G may be 0.

        Returns:
            (K, G).

        Raises:
            ModelConfigError: if the targets have another number of frames or a label too many.
        """
        _check_targets(cls_logits, targets)
        dtype = torch.promote_types(cls_logits.dtype, torch.float32)
        scores, boxes = cls_logits.to(dtype).softmax(-1), boxes.to(dtype)
        frames = torch.arange(targets.num_frames, device=scores.device).expand_as(targets.labels)
        true = targets.boxes.to(boxes)
        iou, _ = box_overlaps(bbox_cxcywh_to_xyxy(boxes)[:, None], bbox_cxcywh_to_xyxy(true))
        distance = (boxes[:, None] - true).abs().mean(-1)
        cost = (
            self.cost_bbox * distance
            - self.cost_class * scores[:, frames, targets.labels]
            - self.cost_iou * iou
        )
        if not self.cost_valid_only:
            return cost.mean(-1)
        return (cost * targets.valid).sum(-1) / targets.valid.sum(-1).clamp(min=1)

    def assign(self, cls_logits: Tensor, boxes: Tensor, targets: ClipTargets) -> SequenceMatch:
        """Match the slots of one clip and one decoder layer.

        Args:
            cls_logits: (K, T, num_classes + 2).
            boxes: (K, T, 4) cxcywh.
            targets: G instances of T frames.

        Returns:
            At most min(K, G) pairs; a pair without any frame is left out, as it has no target.
        """
        columns = torch.arange(len(targets), device=cls_logits.device)
        cost = self.cost(cls_logits, boxes, targets)
        if self.cost_valid_only:
            columns = targets.valid.any(-1).nonzero().squeeze(1)
            cost = cost[:, columns]
        cost = torch.nan_to_num(cost, LARGE_COST, LARGE_COST, -LARGE_COST)
        rows, chosen = linear_sum_assignment(cost.cpu().numpy())
        slots = torch.as_tensor(rows, dtype=torch.long, device=cls_logits.device)
        instances = columns[torch.as_tensor(chosen, dtype=torch.long, device=columns.device)]
        frames = targets.valid[: len(slots)] if self.valid_index_bug else targets.valid[instances]
        kept = frames.any(-1)
        return SequenceMatch(slots[kept], instances[kept], frames[kept])


def _check_targets(cls_logits: Tensor, targets: ClipTargets) -> None:
    """Refuse targets of another clip length or with labels the model has no logit for."""
    if cls_logits.shape[1] != targets.num_frames:
        raise ModelConfigError(
            f'targets: expected {cls_logits.shape[1]} frames, the clip length of the model, got '
            f'{targets.num_frames}; make num_frames of the model and of the clip sampling equal'
        )
    num_classes = cls_logits.shape[-1] - 2
    if len(targets) and int(targets.labels.max()) > num_classes:
        raise ModelConfigError(
            f'targets: found the class label {int(targets.labels.max()) - 1}, but the model has '
            f'num_classes={num_classes}; make it that of the data set'
        )


def match_layers(
    assigner: SequenceHungarianAssigner,
    cls_logits: Tensor,
    boxes: Tensor,
    targets: Sequence[ClipTargets],
) -> list[list[SequenceMatch]]:
    """Match every decoder layer on its own.

    Args:
        assigner: The matcher.
        cls_logits: (N, B, K, T, num_classes + 2).
        boxes: (N, B, K, T, 4) cxcywh.
        targets: The B clips.

    Returns:
        For each of the N layers the matches of its B clips.
    """
    return [
        [assigner.assign(c, b, t) for c, b, t in zip(layer, layer_boxes, targets, strict=True)]
        for layer, layer_boxes in zip(cls_logits.detach(), boxes.detach(), strict=True)
    ]


def matched_slots(matches: Sequence[SequenceMatch]) -> Tensor:
    """List the slots that have a target: those whose masks a loss needs.

    Args:
        matches: The matches of the B clips of the last layer.

    Returns:
        (P, 2) int64 of (clip, slot), clip after clip, slots ascending; P may be 0.
    """
    return torch.cat(
        [torch.stack([torch.full_like(m.slots, b), m.slots], -1) for b, m in enumerate(matches)]
    )
