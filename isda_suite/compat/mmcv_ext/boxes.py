"""Box operators: suppression in three forms and pairwise overlap.

Boxes are xyxy; ``offset`` 1 counts the last pixel as part of a box, its width being
x2 - x1 + 1. N boxes.
"""

import torch
from torch import Tensor

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2
_IOU, _IOF = 0, 1


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Keep the boxes that overlap no better one by more than the threshold.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: Largest overlap of two boxes that are both kept.
        offset: 0 or 1, see above.

    Returns:
        Indices of the kept boxes, by falling score.
    """
    # torchvision's kernels know no bfloat16, and overlaps in half precision are too coarse.
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    return torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    r"""Lower the scores of boxes that overlap better ones, and drop what falls too low.

    A box of score :math:`s` and overlap :math:`o` with the one just kept goes on with
    :math:`s \cdot w(o)`: naive :math:`w = [o < t]`, linear :math:`w = 1 - o` from the threshold
    :math:`t` on, gaussian :math:`w = e^{-o^2 / \sigma}`.

    Args:
        boxes: (N, 4) on the CPU.
        scores: (N,).
        dets: (N, 5); its first rows receive the kept boxes and their new scores.
        iou_threshold: t, for the first two methods.
        sigma: For the third.
        min_score: Boxes below it are dropped; the best box of all always stays.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1, see above.

    Returns:
        Indices of the kept boxes in the order of their new scores.

    Source: Soft-NMS (arXiv:1704.04503), section 3.
    """
    scores = scores.detach().clone()
    remaining = torch.arange(len(boxes))
    kept: list[int] = []
    while len(remaining):
        best = int(scores[remaining].argmax())
        index = int(remaining[best])
        dets[len(kept), :4] = boxes[index]
        dets[len(kept), 4] = scores[index]
        kept.append(index)
        remaining = torch.cat([remaining[:best], remaining[best + 1 :]])
        overlap = _pairwise(boxes[index : index + 1], boxes[remaining], _IOU, offset)[0]
        if method == _GAUSSIAN:
            weight = torch.exp(-(overlap**2) / sigma)
        elif method == _LINEAR:
            weight = torch.where(overlap >= iou_threshold, 1 - overlap, 1.0)
        else:
            weight = (overlap < iou_threshold).to(overlap)
        scores[remaining] *= weight
        remaining = remaining[scores[remaining] >= min_score]
    return torch.tensor(kept, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group every kept box with the boxes it suppresses.

    Args:
        dets: (N, 5) boxes and scores on the CPU.
        iou_threshold: Overlap from which on a box is suppressed.

    Returns:
        For each kept box, by falling score, its index followed by those of its group.
    """
    boxes, scores = dets[:, :4], dets[:, 4]
    remaining = scores.argsort(descending=True, stable=True)
    groups = []
    while len(remaining):
        overlap = _pairwise(boxes[remaining[:1]], boxes[remaining], _IOU, 0)[0]
        overlap[0] = float('inf')  # a box without area would not match itself
        suppressed = overlap >= iou_threshold
        groups.append(remaining[suppressed].tolist())
        remaining = remaining[~suppressed]
    return groups


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlaps of boxes into ``ious``.

    Args:
        bboxes1: (N, 4).
        bboxes2: (M, 4); M = N if ``aligned``.
        ious: (N, M), or (N,) if ``aligned``; receives the result.
        mode: 0 for intersection over union, 1 for intersection over the area of ``bboxes1``.
        aligned: Row by row instead of each with each.
        offset: 0 or 1, see above.
    """
    if aligned:
        ious.copy_(_overlap(bboxes1, bboxes2, mode, offset))
    else:
        ious.copy_(_pairwise(bboxes1, bboxes2, mode, offset))


def _pairwise(first: Tensor, second: Tensor, mode: int, offset: int) -> Tensor:
    return _overlap(first[:, None], second[None], mode, offset)


def _overlap(first: Tensor, second: Tensor, mode: int, offset: int) -> Tensor:
    """Overlap of boxes (..., 4); 0, not NaN, for two boxes without area."""
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    common = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    whole = (first[..., 2:] - first[..., :2] + offset).prod(-1)
    if mode == _IOU:
        whole = whole + (second[..., 2:] - second[..., :2] + offset).prod(-1) - common
    return common / whole.clamp(min=torch.finfo(common.dtype).tiny)
