"""Ground-truth masks on the padded canvas of a batch, and what they cover of a feature map."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.mask import PolygonMasks
from torch import Tensor

from .errors import ModelConfigError


def bitmap_of(masks: Any, canvas_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Bring ground-truth masks to the padded canvas of the batch.

    Args:
        masks: mmdet's bitmap or polygon masks, or a (G, h, w) array or tensor.
        canvas_hw: Size of the network's input.
        device: Where the result shall live.

    Returns:
        (G, H, W) uint8.

    Raises:
        ModelConfigError: if they are larger than the canvas.
    """
    if isinstance(masks, PolygonMasks):
        masks = masks.to_bitmap()
    found = torch.as_tensor(getattr(masks, 'masks', masks)).to(device, torch.uint8)
    down, right = canvas_hw[0] - found.shape[-2], canvas_hw[1] - found.shape[-1]
    if len(found) and (down < 0 or right < 0):
        raise ModelConfigError(
            f'gt masks: expected at most {canvas_hw[0]} x {canvas_hw[1]} pixels (the padded '
            f'batch), got {found.shape[-2]} x {found.shape[-1]}; set pad_mask=True in the '
            'data_preprocessor'
        )
    if len(found) == 0:
        return found.new_zeros((0, *canvas_hw))
    return F.pad(found, (0, right, 0, down))


def coverage_of(masks: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Compute the share of every cell of a feature map that each mask covers.

    Args:
        masks: (G, H, W) binary; H and W are multiples of the feature map's size.
        size_hw: (h, w) of the feature map.

    Returns:
        (G, h, w) float32 in [0, 1].
    """
    (h, w), (height, width) = size_hw, masks.shape[-2:]
    rows = _sum_over(masks.reshape(len(masks), h, height // h, width), dim=2)
    pixels = _sum_over(rows.reshape(len(masks), h, w, width // w), dim=3, before=height // h)
    return pixels.float() / (height // h * (width // w))


def _sum_over(counts: Tensor, dim: int, before: int = 1) -> Tensor:
    """Sum counts along a short axis, one slice after the other, in the smallest type that holds it.

    Many times faster on a CPU than a reduction of small integers.

    Args:
        counts: At most ``before`` each.
        dim: The axis.
        before: Pixels that a count stands for.
    """
    most = before * counts.shape[dim]
    kind = torch.uint8 if most < 256 else torch.int32
    return functools.reduce(torch.add, counts.to(kind).unbind(dim))
