"""Boxes around masks."""

import torch
from torch import Tensor


def boxes_around(masks: Tensor) -> Tensor:
    """Compute the boxes around masks, as mmdet's ``mask2bbox`` without a loop over them.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) float32 xyxy, pixels counted with their area; zeros around an empty mask.
    """
    sides = []
    for axis in (1, 2):
        used = masks.any(axis)
        size = used.shape[1]
        places = torch.arange(size, device=masks.device)
        first = torch.where(used, places, size).amin(1)
        last = torch.where(used, places + 1, 0).amax(1)
        # Without a pixel the first is the size and the last 0.
        sides.append((torch.where(last > 0, first, 0), last))
    (x1, x2), (y1, y2) = sides
    return torch.stack((x1, y1, x2, y2), 1).float()
