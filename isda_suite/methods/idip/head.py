"""IDIP's head: six stages refine boxes, then one mask head looks inside them."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_at_least
from isda_suite.layers.region_features import extract_rois
from isda_suite.registry import MODELS

from .dynamic_head import BoxHead, DynamicHead, TimeEncoder, decode_boxes
from .loss import IDIPLoss, Stage, mask_targets
from .matching import Match

Maps = Sequence[Tensor]


@MODELS.register_module()
class IDIPHead(BaseModule):
    """Refine boxes stage by stage, with classes; then masks inside the boxes.

    Every stage has a dynamic head and a time encoder of its own; the box head and the mask head
    are shared by all. Boxes go from stage to stage without their gradient, features with it. There
    are no learned queries, so any number of proposals can be asked for.

    Shapes: S stages, B images, N proposals, K classes, C channels, R side of the region features.

    Args:
        num_classes: Classes without background.
        box_roi_extractor: Config of what takes the region features of the stages.
        mask_roi_extractor: The same for the mask head.
        mask_head: Config of the mask head; the number of classes and channels is added.
        loss: Config of the matching and the losses; ``None`` for a model that only predicts.
        num_stages: S.
        embed_dims: C.
        num_heads: Heads of the attention.
        feedforward_channels: Hidden channels of the stages' FFNs.
        dynamic_channels: Channels between the two dynamic matrices.
        prior: Probability that the bias of the class logits starts from.

    Source: IDIP (doi 10.3233/FAIA230485), sections 3.2 and 3.3.
    """

    def __init__(
        self,
        num_classes: int,
        box_roi_extractor: dict[str, Any],
        mask_roi_extractor: dict[str, Any],
        mask_head: dict[str, Any],
        loss: dict[str, Any] | None = None,
        num_stages: int = 6,
        embed_dims: int = 256,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dynamic_channels: int = 64,
        prior: float = 0.01,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_at_least('roi_head.num_classes', num_classes, 1)
        require_at_least('roi_head.num_stages', num_stages, 1)
        self.num_classes = num_classes
        self.prior = prior
        self.box_roi_extractor = MODELS.build(box_roi_extractor)
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.dynamic_heads = nn.ModuleList(
            DynamicHead(
                embed_dims,
                num_heads,
                feedforward_channels,
                dynamic_channels,
                side_of(self.box_roi_extractor),
            )
            for _ in range(num_stages)
        )
        self.time_heads = nn.ModuleList(TimeEncoder(embed_dims) for _ in range(num_stages))
        self.box_head = BoxHead(num_classes, embed_dims)
        mask_cfg = dict(num_classes=num_classes, in_channels=embed_dims)
        mask_cfg.update(
            dynamic_channels=dynamic_channels, roi_size=side_of(self.mask_roi_extractor)
        )
        self.mask_head = MODELS.build({**mask_cfg, **copy.deepcopy(mask_head)})
        self.criterion: IDIPLoss | None = None if loss is None else MODELS.build(loss)

    def init_weights(self) -> None:
        """Start from a low probability for every class; set by name, whatever the shapes are."""
        super().init_weights()
        nn.init.constant_(self.box_head.fc_cls.bias, bias_init_with_prob(self.prior))

    def forward(self, feats: Maps, boxes: Tensor, times: Tensor) -> list[Stage]:
        """Run all stages.

        Args:
            feats: Maps of the pyramid (B, C, H / s, W / s), finest first.
            boxes: (B, N, 4) xyxy in pixels, no side negative.
            times: (B,) times of the diffusion.

        Returns:
            S stages.
        """
        feats = [feat.float() for feat in feats]
        stages: list[Stage] = []
        features: Tensor | None = None
        for dynamic_head, time_head in zip(self.dynamic_heads, self.time_heads, strict=True):
            regions = extract(self.box_roi_extractor, feats, list(boxes))
            if features is None:
                features = regions.mean((2, 3)).view(*boxes.shape[:2], -1)
            features = dynamic_head(features, regions)
            logits, deltas = self.box_head(features, time_head(times))
            predicted = decode_boxes(boxes, deltas)
            stages.append(Stage(logits, predicted, features))
            boxes = predicted.detach()
        return stages

    def predict_masks(
        self,
        feats: Maps,
        boxes: Sequence[Tensor],
        features: Tensor,
        labels: Tensor | None = None,
        groups: Sequence[int] | None = None,
    ) -> Tensor:
        """Predict the masks inside boxes.

        Args:
            feats: Maps of the pyramid, of B images.
            boxes: B tensors (P, 4) xyxy in pixels.
            features: (sum of P, C) proposal features, image after image.
            labels: (sum of P,) classes whose maps are wanted; ``None`` for all.
            groups: See :class:`IDIPMaskHead`.

        Returns:
            (sum of P, 2 R, 2 R) logits, or (sum of P, K, 2 R, 2 R) without ``labels``.
        """
        regions = extract(self.mask_roi_extractor, [feat.float() for feat in feats], boxes)
        logits: Tensor = self.mask_head(regions, features, labels, groups)
        return logits

    def loss(
        self,
        feats: Maps,
        stages: Sequence[Stage],
        targets: Sequence[InstanceData],
        sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch, averaged over the stages.

        Every parameter takes part, whatever the images hold: a process that leaves one out would
        let the others wait for it.

        Args:
            feats: Maps of the pyramid.
            stages: S stages of :meth:`forward`.
            targets: B results of :func:`isda_suite.methods.idip.targets.checked_targets`.
            sizes_hw: Sizes of the B images without padding.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_iou``, ``loss_mask``: scalars, weights included.
        """
        if self.criterion is None:
            raise RuntimeError('roi_head.loss: this model was built without losses')
        matches = [self.criterion.match(stage, targets, sizes_hw) for stage in stages]
        terms = [
            self.criterion.box_terms(stage, targets, found, sizes_hw)
            for stage, found in zip(stages, matches, strict=True)
        ]
        means = [torch.stack(values).mean() for values in zip(*terms, strict=True)]
        losses = dict(zip(('loss_cls', 'loss_bbox', 'loss_iou'), means, strict=True))
        losses['loss_mask'] = self._mask_term(self.criterion, feats, stages, targets, matches)
        return losses

    def _mask_term(
        self,
        criterion: IDIPLoss,
        feats: Maps,
        stages: Sequence[Stage],
        targets: Sequence[InstanceData],
        matches: Sequence[Sequence[Match]],
    ) -> Tensor:
        """Compute the mask loss of all stages and images at once.

        Rows are ordered by stage, then by image, which is the order in which the published code
        asks its mask head, so that running statistics agree.
        """
        boxes, features, labels, goals, weights, sizes, rows = [], [], [], [], [], [], []
        for stage, found in zip(stages, matches, strict=True):
            count = criterion.count(found)
            for image, (match, gt) in enumerate(zip(found, targets, strict=True)):
                boxes.append(stage.boxes[image, match.proposal_inds].detach())
                features.append(stage.features[image, match.proposal_inds])
                labels.append(gt.labels[match.gt_inds])
                weights.append(boxes[-1].new_ones(len(match)) / (count * len(stages)))
                sizes.append(len(match))
                rows.append(boxes[-1].new_full((len(match), 1), image))
        rois = torch.cat([torch.cat(rows), torch.cat(boxes)], dim=1)
        regions = extract_rois(self.mask_roi_extractor, [feat.float() for feat in feats], rois)
        logits = self.mask_head(regions, torch.cat(features), torch.cat(labels), sizes)
        goals = [
            mask_targets(
                targets[k % len(targets)].masks, box, _gt_inds(matches, k), logits.shape[-1]
            )
            for k, box in enumerate(boxes)
        ]
        loss: Tensor = criterion.loss_mask(logits, torch.cat(goals), torch.cat(weights))
        return loss


def extract(extractor: nn.Module, feats: Maps, boxes: Sequence[Tensor]) -> Tensor:
    """Take the region features of boxes.

    Args:
        extractor: mmdet's ``SingleRoIExtractor``.
        feats: Maps of the pyramid, float32, of B images.
        boxes: B tensors (P, 4) xyxy in pixels.

    Returns:
        (sum of P, C, R, R) float32.
    """
    return extract_rois(extractor, feats, bbox2roi([one.detach().float() for one in boxes]))


def side_of(extractor: nn.Module) -> int:
    """Return the width of an extractor's output."""
    size = extractor.roi_layers[0].output_size  # type: ignore[union-attr,index]
    return int(size[0] if isinstance(size, tuple | list) else size)


def _gt_inds(matches: Sequence[Sequence[Match]], index: int) -> Tensor:
    """Return the targets of the match at a place of the flattened list."""
    stage, image = divmod(index, len(matches[0]))
    return matches[stage][image].gt_inds
