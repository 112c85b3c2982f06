"""Targets, matching and terms of one decoder layer of SOLQ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.structures import InstanceData
from torch import Tensor

from .mask_code import DCTMaskCoder


@dataclass
class Match:
    """The one-to-one matching of one image.

    Attributes:
        query_inds: (K,) int64, matched queries, ascending.
        gt_inds: (K,) int64, the object of each; K = min(queries, objects).
    """

    query_inds: Tensor
    gt_inds: Tensor


def image_factor(meta: dict[str, Any], like: Tensor) -> Tensor:
    """Make (w, h, w, h) of an image without padding, which boxes are normalised by."""
    height, width = meta['img_shape'][:2]
    return like.new_tensor([width, height, width, height])


def match_image(
    assigner: Any, cls_logits: Tensor, boxes: Tensor, gt: InstanceData, meta: dict[str, Any]
) -> Match:
    """Match the queries of one image and one decoder layer to its objects, by class and box.

    Args:
        assigner: mmdet's ``HungarianAssigner``.
        cls_logits: (Q, classes).
        boxes: (Q, 4) as (cx, cy, w, h) in [0, 1].
        gt: ``labels`` (G,) and ``bboxes`` (G, 4) xyxy in pixels.
        meta: With ``img_shape``.

    Returns:
        The matching; empty without objects.
    """
    if len(gt) == 0:
        none = cls_logits.new_zeros(0, dtype=torch.long)
        return Match(none, none)
    pixels = bbox_cxcywh_to_xyxy(boxes.float()) * image_factor(meta, boxes.float())
    pred = InstanceData(scores=cls_logits.float(), bboxes=pixels)
    gt = InstanceData(labels=gt.labels, bboxes=gt.bboxes)
    gt_inds = assigner.assign(pred, gt, meta).gt_inds
    query_inds = gt_inds.nonzero().squeeze(1)
    return Match(query_inds, gt_inds[query_inds] - 1)


def code_masks(gt: InstanceData, coder: DCTMaskCoder) -> Tensor:
    """Code the masks of the objects of an image inside their annotated boxes.

    Once per object, on the device of the boxes; the layers index the result.

    Args:
        gt: ``masks`` (bitmap or polygon masks) at input size and ``bboxes`` (G, 4) xyxy in pixels.
        coder: The code.

    Returns:
        (G, keep) float32.
    """
    boxes = gt.bboxes.float()
    if len(gt) == 0:
        return boxes.new_zeros((0, coder.keep))
    masks = torch.as_tensor(gt.masks.to_ndarray()).to(boxes)[:, None]
    rois = torch.cat([torch.arange(len(boxes)).to(boxes)[:, None], boxes], 1)
    size = (coder.size, coder.size)
    inside = roi_align(masks, rois, size, 1.0, 0, 'avg', True)[:, 0]
    return coder.encode(inside >= 0.5)


def query_errors(
    cls_logits: Tensor, matches: Sequence[Match], gts: Sequence[InstanceData]
) -> dict[str, Tensor]:
    """Measure classes and numbers of objects, for the log; without gradient.

    Args:
        cls_logits: (B, Q, classes).
        matches: B matchings.
        gts: B instances with ``labels``.

    Returns:
        ``class_error``: percentage of matched queries whose best class is wrong (100 without
        objects), ``cardinality_error``: difference between the number of queries whose best class
        is not the last one and the number of objects, averaged over images.
    """
    best = cls_logits.detach().argmax(-1)
    right = [
        best[i, match.query_inds] == gt.labels[match.gt_inds]
        for i, (match, gt) in enumerate(zip(matches, gts, strict=True))
    ]
    hits = torch.cat(right).float()
    # Compat: the published code takes the last class for "no object", which it is not.
    found = (best != cls_logits.shape[-1] - 1).sum(1).float()
    wanted = found.new_tensor([len(gt) for gt in gts])
    return dict(
        class_error=100 - 100 * hits.sum() / max(len(hits), 1),
        cardinality_error=(found - wanted).abs().mean(),
    )
