"""IDIP trained as the published code is built, in eager PyTorch.

The rival of ``benchmarks/idip.py``: every stage's losses are computed on their own, the mask head
is asked once for every image and every stage, it gives the maps of all classes, of which the one
wanted is taken, and everything is kept for the gradient. Nothing is slower than that needs: the
region operator, the dynamic convolution, the matching and the losses of boxes are those the suite
uses, activations are in place, and pairs of boxes are compared one to one (the published code
builds a matrix of all pairs).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isda_suite.methods.idip.head import extract
from isda_suite.methods.idip.loss import mask_targets


class EagerMaskHead(nn.Module):
    """The mask head as it is written in the paper; takes the layers of ours.

    Args:
        head: An ``IDIPMaskHead``.
    """

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.instance_conv = head.instance_conv
        self.convs = nn.ModuleList(
            nn.Sequential(*block.children(), nn.ReLU(inplace=True)) for block in head.convs
        )
        self.upsample = head.upsample
        self.logits = head.logits

    def forward(self, regions: Tensor, features: Tensor) -> Tensor:
        """Compute the maps of all classes: (K, classes, 2 R, 2 R)."""
        x = self.instance_conv(features, regions).mT.reshape(regions.shape)
        for conv in self.convs:
            x = conv(x)
        maps: Tensor = self.logits(self.upsample(x).relu_())
        return maps


def eager_masks(
    model: Any,
    feats: Sequence[Tensor],
    boxes: Sequence[Tensor],
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
) -> list[Tensor]:
    """Compute the mask logits of some images, image by image, with the weights of an ``IDIP``.

    Args:
        model: The detector.
        feats: Maps of the pyramid, of B images.
        boxes: B tensors (P, 4).
        features: B tensors (P, C).
        labels: B tensors (P,).

    Returns:
        B tensors (P, 2 R, 2 R).
    """
    head = model.roi_head
    mask_head = EagerMaskHead(head.mask_head)  # with the norms in the mode they are in
    found = []
    for image, (box, feature, label) in enumerate(zip(boxes, features, labels, strict=True)):
        maps = [feat[image : image + 1] for feat in feats]
        every = mask_head(extract(head.mask_roi_extractor, maps, [box]), feature)
        found.append(every[torch.arange(len(label)), label])
    return found


def eager_losses(model: Any, inputs: Tensor, samples: Sequence[Any]) -> dict[str, Tensor]:
    """Compute the losses of a batch of an ``IDIP`` with its weights.

    Args:
        model: The detector; noise is drawn exactly as it does.
        inputs: (B, 3, H, W).
        samples: B data samples.
    """
    head, criterion = model.roi_head, model.roi_head.criterion
    mask_head = EagerMaskHead(head.mask_head).train(head.mask_head.training)

    def losses(
        feats: Any, stages: Any, targets: Sequence[Any], sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        terms = []
        for stage in stages:
            found = criterion.match(stage, targets, sizes_hw)
            count = criterion.count(found)
            mask_term = stage.features.sum() * 0
            for image, (match, gt) in enumerate(zip(found, targets, strict=True)):
                if len(match) == 0:
                    continue
                boxes = stage.boxes[image, match.proposal_inds].detach()
                maps = [feat[image : image + 1] for feat in feats]
                regions = extract(head.mask_roi_extractor, maps, [boxes])
                logits = mask_head(regions, stage.features[image, match.proposal_inds])
                logits = logits[torch.arange(len(match)), gt.labels[match.gt_inds]]
                goal = mask_targets(gt.masks, boxes, match.gt_inds, logits.shape[-1])
                weight = boxes.new_ones(len(match)) / count
                mask_term = mask_term + criterion.loss_mask(logits, goal, weight)
            terms.append((*criterion.box_terms(stage, targets, found, sizes_hw), mask_term))
        means = [torch.stack(values).mean() for values in zip(*terms, strict=True)]
        return dict(zip(('loss_cls', 'loss_bbox', 'loss_iou', 'loss_mask'), means, strict=True))

    own = head.loss
    head.loss = losses  # the detector asks its head; everything before it is the same
    try:
        result: dict[str, Tensor] = model.loss(inputs, samples)
    finally:
        head.loss = own
    return result
