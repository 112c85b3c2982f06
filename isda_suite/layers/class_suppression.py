"""Suppression of boxes class by class in graphs whose lengths cannot depend on the content."""

import torch
from torch import Tensor


def survivors(
    boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor, iou_thr: float
) -> Tensor:
    """Say which boxes no better one of their class suppresses, as mmcv's ``batched_nms`` does.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,), at least 0 where a box is valid.
        labels: (N,).
        valid: (N,) bool; what is not valid neither survives nor suppresses.
        iou_thr: Overlap above which the worse box goes.

    Returns:
        (N,) bool.
    """
    n = len(boxes)
    # Classes side by side, so that their boxes do not meet.
    shift = labels * (torch.where(valid[:, None], boxes, -torch.inf).amax((0, 1)) + 1)
    shift = torch.where(valid, shift, 0)[:, None]
    kept = torch.ops.torchvision.nms(boxes + shift, torch.where(valid, scores, -1), iou_thr)
    return (torch.arange(n, device=boxes.device)[:, None] == kept).any(1) & valid
