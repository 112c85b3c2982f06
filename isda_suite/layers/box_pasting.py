"""Maps of regions of interest, put back where the regions are."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pasted_in_boxes(values: Tensor, boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Sample maps that fill boxes on a common grid.

    mmdet's own pasting fades to zero at the border of a box and gives zeros outside; here what was
    not predicted stays visible.

    Args:
        values: (N, h, w), one map a box.
        boxes: (N, 4) xyxy in cells of the grid.
        size_hw: Size of the grid (H, W).

    Returns:
        (N, H, W), bilinear; NaN outside of the boxes.
    """
    axes = []
    for axis, length in ((0, size_hw[1]), (1, size_hw[0])):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        centres = torch.arange(length, device=values.device) + 0.5
        axes.append((centres - low) / (high - low).clamp(min=1e-3) * 2 - 1)
    shape = (len(boxes), *size_hw)
    x, y = axes[0][:, None, :].expand(shape), axes[1][:, :, None].expand(shape)
    grid = torch.stack([x, y], dim=-1).to(values.dtype)
    sampled = F.grid_sample(values[:, None], grid, padding_mode='border', align_corners=False)
    return sampled[:, 0].masked_fill((grid.abs() > 1).any(dim=-1), torch.nan)
