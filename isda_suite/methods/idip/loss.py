"""Matching and loss terms of IDIP, over all stages of the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS, TASK_UTILS

from .matching import Match

NORMALISERS = ('process', 'ranks')


@dataclass
class Stage:
    """What one stage of the head predicts for B images and N proposals.

    Attributes:
        logits: (B, N, K) class logits.
        boxes: (B, N, 4) float32 xyxy in pixels, not clipped.
        features: (B, N, C) proposal features.
    """

    logits: Tensor
    boxes: Tensor
    features: Tensor


@MODELS.register_module()
class MaskDiceLoss(nn.Module):
    r"""Sum the dice losses of masks.

    .. math:: 1 - \frac{2 \sum p m}{\sum p + \sum m + 10^{-8}}

    Different from mmdet's: first powers, and an epsilon in the denominator only.

    Args:
        loss_weight: Factor.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, mask_logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Compute the weighted sum.

        Args:
            mask_logits: (P, h, w); P may be 0.
            targets: (P, h, w) in {0, 1}.
            weight: (P,) factor of every mask.

        Returns:
            A scalar, float32.
        """
        probs = mask_logits.float().sigmoid().flatten(1)
        goal = targets.float().flatten(1)
        dice = 2 * (probs * goal).sum(1) / (probs.sum(1) + goal.sum(1) + 1e-8)
        return self.loss_weight * ((1 - dice) * weight).sum()


@MODELS.register_module()
class IDIPLoss(nn.Module):
    """Match every stage with the targets and average its losses over the stages.

    Shapes: S stages, B images, N proposals, K classes, G targets, P matched proposals of a stage.

    Args:
        assigner: Config of the matching.
        loss_cls: Config of the class loss, summed over logits.
        loss_bbox: Config of the loss of corners as shares of the image, summed.
        loss_iou: Config of the overlap loss, summed.
        loss_mask: Config of the mask loss, a weighted sum.
        use_empty_images: Whether images without targets give negatives to the class loss; the
            published code leaves them out.
        normaliser: What sums are divided by: the matched proposals of the ``'process'``
            (published), or their mean over all ``'ranks'``.

    Raises:
        ModelConfigError: for an unknown ``normaliser``.
    """

    def __init__(
        self,
        assigner: dict[str, Any],
        loss_cls: dict[str, Any],
        loss_bbox: dict[str, Any],
        loss_iou: dict[str, Any],
        loss_mask: dict[str, Any],
        use_empty_images: bool = False,
        normaliser: str = 'process',
    ) -> None:
        super().__init__()
        require_one_of('roi_head.loss.normaliser', normaliser, NORMALISERS)
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        self.loss_mask = MODELS.build(loss_mask)
        self.use_empty_images = use_empty_images
        self.normaliser = normaliser

    def match(
        self, stage: Stage, targets: Sequence[InstanceData], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[Match]:
        """Match the proposals of one stage, image by image.

        Args:
            stage: Its predictions.
            targets: B instances with ``bboxes`` (G, 4) in pixels and ``labels`` (G,).
            sizes_hw: Sizes of the B images without padding.
        """
        with torch.autocast(device_type=stage.boxes.device.type, enabled=False):
            return [
                self.assigner.match(*image)
                for image in zip(stage.logits, stage.boxes, targets, sizes_hw, strict=True)
            ]

    def count(self, matches: Sequence[Match]) -> float | Tensor:
        """Return what the sums of a stage are divided by, at least 1 of them."""
        matched = sum(map(len, matches))
        if self.normaliser == 'process':
            return max(matched, 1)
        device = matches[0].gt_inds.device
        return reduce_mean(torch.tensor(float(matched), device=device)).clamp(min=1)

    def box_terms(
        self,
        stage: Stage,
        targets: Sequence[InstanceData],
        matches: Sequence[Match],
        sizes_hw: Sequence[tuple[int, int]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute class, corner and overlap loss of one stage; see :meth:`match`.

        Returns:
            Three scalars, divided by :meth:`count`; without a match zeros that are connected to
            all predictions.
        """
        count = self.count(matches)
        loss_cls = self._class_term(stage.logits, targets, matches) / count
        # Rows of all images, with all proposals where none matched: the sum of none is connected.
        boxes = torch.cat(
            [row[m.proposal_inds] for row, m in zip(stage.boxes, matches, strict=True)]
        )
        gt_boxes = torch.cat([t.bboxes[m.gt_inds] for t, m in zip(targets, matches, strict=True)])
        sides = torch.cat(
            [
                boxes.new_tensor([w, h, w, h]).expand(len(m), 4)
                for (h, w), m in zip(sizes_hw, matches, strict=True)
            ]
        )
        if len(boxes) == 0:
            return loss_cls, boxes.sum(), boxes.sum()
        loss_bbox = self.loss_bbox(boxes / sides, gt_boxes / sides) / count
        return loss_cls, loss_bbox, self.loss_iou(boxes, gt_boxes) / count

    def _class_term(
        self, logits: Tensor, targets: Sequence[InstanceData], matches: Sequence[Match]
    ) -> Tensor:
        num_classes = logits.shape[-1]
        # Compat: the published code leaves out images without a match, negatives and all.
        rows = [i for i, m in enumerate(matches) if len(m) or self.use_empty_images]
        if not rows:
            return logits.float().sum() * 0
        labels = torch.full(logits.shape[:2], num_classes, dtype=torch.long, device=logits.device)
        for row, target, match in zip(labels, targets, matches, strict=True):
            row[match.proposal_inds] = target.labels[match.gt_inds]
        chosen = logits if len(rows) == len(logits) else logits[rows]
        labels = labels if len(rows) == len(logits) else labels[rows]
        loss: Tensor = self.loss_cls(chosen.float().flatten(0, 1), labels.flatten())
        return loss


@torch.no_grad()
def mask_targets(
    masks: Tensor, boxes: Tensor, gt_inds: Tensor, size: int, soft: bool = False
) -> Tensor:
    """Crop target masks to predicted boxes; what lies outside the image is background.

    Args:
        masks: (G, h, w) binary masks of an image.
        boxes: (P, 4) xyxy in pixels, not clipped.
        gt_inds: (P,) which mask each box gets.
        size: Height and width of the result.
        soft: Whether to give the values before the threshold of one half.

    Returns:
        (P, size, size) bool, or float32 with ``soft``.
    """
    if len(boxes) == 0:
        return boxes.new_zeros((0, size, size), dtype=torch.float32 if soft else torch.bool)
    rois = torch.cat([gt_inds[:, None].float(), boxes.float()], dim=1)
    share = roi_align(masks[:, None].float(), rois, (size, size), 1.0, 0, 'avg', True)[:, 0]
    return share if soft else share >= 0.5
