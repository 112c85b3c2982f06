"""From raw outputs of one image to detections."""

from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_pasting import paste_masks
from isda_suite.layers.option_checks import require_one_of
from isda_suite.layers.query_selection import select_queries

MASK_SCORES = ('foreground', 'all', 'none')
# The published threshold of the alternative head, whose mask score averages over all pixels.
ALL_PIXELS_THR = 1e-6


def mask_quality(masks: Tensor, mode: str, mask_thr: float) -> Tensor:
    """Compute the factor that re-scores detections: how sure the mask is of its own pixels.

    Args:
        masks: (N, H, W) probabilities at stride 4, padded area included.
        mode: ``'foreground'``: mean over pixels above ``mask_thr``; ``'all'``: mean over pixels
            above 1e-6; ``'none'``: ones.
        mask_thr: Foreground threshold, 0..1.

    Returns:
        (N,) in [0, 1]; 0 for an empty mask.

    Raises:
        ModelConfigError: for another mode.
    """
    require_one_of('test_cfg.mask_score', mode, MASK_SCORES)
    if mode == 'none':
        return masks.new_ones(len(masks))
    inside = masks > (mask_thr if mode == 'foreground' else ALL_PIXELS_THR)
    return (masks * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-5)


def detect(
    cls_logits: Tensor,
    kernels: Tensor,
    mask_feature: Tensor,
    img_shape: tuple[int, int],
    out_shape: tuple[int, int],
    *,
    max_per_img: int = 100,
    mask_thr: float = 0.5,
    mask_score: str = 'foreground',
    score_thr: float = 0.0,
) -> InstanceData:
    """Decode the detections of one image, in the order of descending class score.

    Args:
        cls_logits: (Q, classes) of the last decoder layer.
        kernels: (Q, C) of the last decoder layer.
        mask_feature: (C, H, W).
        img_shape: (h, w) of the network's input without padding.
        out_shape: (h, w) of the masks wanted.
        max_per_img: Number of detections at most.
        mask_thr: Foreground threshold of masks and mask score, 0..1.
        mask_score: See :func:`mask_quality`.
        score_thr: Detections with a lower final score are dropped, 0..1.

    Returns:
        ``scores`` (class score x mask score), ``class_scores``, ``labels``, ``query_inds`` and
        ``masks`` (N, h, w) bool.

    Raises:
        ModelConfigError: if ``max_per_img`` is not positive.

    Source: ISDA (arXiv:2202.12251), inference; the mask score is SOLOv2's.
    """
    if max_per_img < 1:
        raise ModelConfigError(f'test_cfg.max_per_img: expected at least 1, got {max_per_img}')
    class_scores, labels, query_inds = select_queries(cls_logits.float(), max_per_img)
    masks = decode_mask_logits(kernels[query_inds], mask_feature).sigmoid()
    scores = class_scores * mask_quality(masks, mask_score, mask_thr)
    if score_thr > 0:
        keep = scores >= score_thr
        masks, scores, class_scores = masks[keep], scores[keep], class_scores[keep]
        labels, query_inds = labels[keep], query_inds[keep]
    return InstanceData(
        scores=scores,
        class_scores=class_scores,
        labels=labels,
        query_inds=query_inds,
        masks=paste_masks(masks, img_shape, out_shape, mask_thr),
    )
