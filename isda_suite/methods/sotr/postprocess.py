"""From raw outputs of one image to detections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.layers import mask_matrix_nms
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.mask_boxes import boxes_around
from isda_suite.layers.mask_pasting import paste_masks
from isda_suite.layers.option_checks import require_one_of

KERNELS = ('gaussian', 'linear', 'hard')


def point_nms(scores: Tensor) -> Tensor:
    """Keep a class score only where no upper, left or upper-left neighbour is higher.

    Args:
        scores: (B, classes, S, S), at least 0.

    Returns:
        The same with 0 elsewhere; equal neighbours stay both.
    """
    highest = F.max_pool2d(scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return scores * (highest == scores)


def hard_mask_nms(
    masks: Tensor, labels: Tensor, scores: Tensor, iou_thr: float, nms_pre: int, max_num: int
) -> tuple[Tensor, Tensor]:
    """Drop each mask that overlaps a kept better one of its class.

    Args:
        masks: (N, H, W) bool.
        labels: (N,).
        scores: (N,).
        iou_thr: Overlap from which on a mask is dropped (above it), 0..1.
        nms_pre: How many of the best masks are looked at.
        max_num: How many are kept at most.

    Returns:
        ``scores`` (n,) in descending order and ``keep`` (n,), indices into the input.
    """
    scores, order = scores.sort(descending=True, stable=True)
    scores, order = scores[:nms_pre], order[:nms_pre]
    flat = masks[order].flatten(1).float()
    both, area = flat @ flat.T, flat.sum(1)
    overlaps = both / (area[:, None] + area - both) > iou_thr
    rivals = (overlaps & (labels[order][:, None] == labels[order])).cpu()
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~rivals[i, i + 1 :]
    kept = alive.nonzero()[:max_num, 0].to(order.device)
    return scores[kept], order[kept]


def detect(
    cls_logits: Sequence[Tensor],
    kernels: Sequence[Tensor],
    mask_feature: Tensor,
    img_shape: tuple[int, int],
    out_shape: tuple[int, int],
    strides: Sequence[int],
    *,
    score_thr: float = 0.1,
    mask_thr: float = 0.5,
    nms_pre: int = 500,
    kernel: str = 'gaussian',
    sigma: float = 2.0,
    filter_thr: float = 0.05,
    max_per_img: int = 100,
) -> InstanceData:
    """Decode the detections of one image, best first.

    Args:
        cls_logits: For each level (classes, S, S).
        kernels: For each level (C, S, S).
        mask_feature: (C, H, W).
        img_shape: (h, w) of the network's input without padding.
        out_shape: (h, w) of the masks wanted.
        strides: For each level the smallest area of a mask, in cells of the mask feature.
        score_thr: Class score that a cell must exceed, 0..1.
        mask_thr: Foreground threshold, 0..1; with ``kernel='hard'`` also the overlap allowed.
        nms_pre: Number of masks that suppression looks at.
        kernel: ``'gaussian'`` or ``'linear'``: matrix NMS; ``'hard'``: masks are dropped.
        sigma: Of the gaussian.
        filter_thr: Score that is needed after matrix NMS, 0..1.
        max_per_img: Number of detections at most.

    Returns:
        ``scores``, ``labels``, ``query_inds`` (cell, counted over all levels), ``masks``
        (n, h, w) bool and ``bboxes`` (n, 4) xyxy around the masks.

    Raises:
        ModelConfigError: for an unknown ``kernel``.

    Source: SOTR (arXiv:2108.06747), inference; matrix NMS: SOLOv2 (arXiv:2003.10152).
    """
    require_one_of('test_cfg.kernel', kernel, KERNELS)
    scores = torch.cat([point_nms(x.float().sigmoid()[None])[0].flatten(1) for x in cls_logits], 1)
    labels, cells = (scores > score_thr).nonzero(as_tuple=True)
    scores = scores[labels, cells]
    queries = torch.cat([x.flatten(1) for x in kernels], 1)[:, cells].T
    probs = decode_mask_logits(queries, mask_feature).sigmoid()
    least = torch.cat(
        [cells.new_full((x[0].numel(),), s) for x, s in zip(cls_logits, strides, strict=True)]
    )
    masks = probs > mask_thr
    areas = masks.sum((1, 2)).float()
    large = areas > least[cells]
    probs, masks, areas = probs[large], masks[large], areas[large]
    labels, cells = labels[large], cells[large]
    scores = scores[large] * (probs * masks).sum((1, 2)) / areas
    if kernel == 'hard':
        scores, keep = hard_mask_nms(masks, labels, scores, mask_thr, nms_pre, max_per_img)
    else:
        scores, _, _, keep = mask_matrix_nms(
            masks,
            labels,
            scores,
            mask_area=areas,
            nms_pre=nms_pre,
            max_num=max_per_img,
            kernel=kernel,
            sigma=sigma,
            filter_thr=filter_thr,
        )
    found = InstanceData(scores=scores, labels=labels[keep], query_inds=cells[keep])
    found.masks = paste_masks(probs[keep], img_shape, out_shape, mask_thr)
    found.bboxes = boxes_around(found.masks).to(scores.dtype)
    return found
