"""From raw outputs of one image to detections."""

from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_pasting import paste_into_boxes
from isda_suite.layers.option_checks import require_one_of
from isda_suite.layers.query_selection import select_queries

from .mask_code import DCTMaskCoder, binarise

MASK_SCORES = ('none', 'foreground')


def mask_quality(values: Tensor, masks: Tensor, mode: str) -> Tensor:
    """Compute the factor that re-scores detections: how sure a code is of its own mask.

    Args:
        values: (N, h, w) decoded codes, about 0 and 1.
        masks: (N, h, w) bool, what is split off from them.
        mode: ``'none'`` (published): ones; ``'foreground'``: the mean value, cut to 0..1, inside
            the mask.

    Returns:
        (N,) in [0, 1]; 0 for an empty mask, but for ``'none'``.

    Raises:
        ModelConfigError: for another mode.
    """
    require_one_of('test_cfg.mask_score', mode, MASK_SCORES)
    if mode == 'none':
        return values.new_ones(len(values))
    return (values.clamp(0, 1) * masks).sum((1, 2)) / (masks.sum((1, 2)) + 1e-5)


def detect(
    cls_logits: Tensor,
    boxes: Tensor,
    codes: Tensor,
    coder: DCTMaskCoder,
    out_shape: tuple[int, int],
    *,
    max_per_img: int = 100,
    mask_thr: float = 0.5,
    mask_score: str = 'none',
    score_thr: float = 0.0,
    clip_boxes: bool = True,
) -> InstanceData:
    """Decode the detections of one image, best first.

    Args:
        cls_logits: (Q, classes) of the last decoder layer.
        boxes: (Q, 4) as (cx, cy, w, h) in [0, 1].
        codes: (Q, keep), the mask codes.
        coder: The code.
        out_shape: (h, w) of the masks wanted; boxes are in its pixels.
        max_per_img: Number of detections at most.
        mask_thr: A pasted mask is foreground from here on, 0..1.
        mask_score: See :func:`mask_quality`; the published score is that of the class alone.
        score_thr: Detections with a lower score are dropped, 0..1.
        clip_boxes: Cut the boxes at the image; the published code does not. Masks are pasted
            into the whole boxes either way.

    Returns:
        ``scores``, ``labels``, ``query_inds``, ``bboxes`` (n, 4) xyxy and ``masks`` (n, h, w) bool.
        The score is that of the class times that of the mask.

    Raises:
        ModelConfigError: if ``max_per_img`` is not positive, or for an unknown ``mask_score``.

    Source: SOLQ (arXiv:2106.02351), inference.
    """
    if max_per_img < 1:
        raise ModelConfigError(f'test_cfg.max_per_img: expected at least 1, got {max_per_img}')
    height, width = out_shape
    scores, labels, query_inds = select_queries(cls_logits.float(), max_per_img)
    values = coder.decode(codes[query_inds])
    masks = binarise(values)
    scores, order = (scores * mask_quality(values, masks, mask_score)).sort(
        descending=True, stable=True
    )
    order, scores = order[scores >= score_thr], scores[scores >= score_thr]
    labels, query_inds, masks = labels[order], query_inds[order], masks[order]
    pixels = boxes.new_tensor([width, height, width, height])
    found_boxes = bbox_cxcywh_to_xyxy(boxes[query_inds]) * pixels
    pasted = paste_into_boxes(masks, found_boxes, out_shape, mask_thr)
    if clip_boxes:
        found_boxes = found_boxes.clamp(min=0).minimum(pixels)
    return InstanceData(
        scores=scores, labels=labels, query_inds=query_inds, bboxes=found_boxes, masks=pasted
    )
