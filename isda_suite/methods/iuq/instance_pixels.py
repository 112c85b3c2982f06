"""Which pixels of an image are stored: instances only, the same number of each."""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.mask import PolygonMasks
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError

SAMPLINGS = ('pad', 'cap', 'per_image', 'dense')


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
    g, h, w = len(masks), *size_hw
    cells = masks.reshape(g, h, masks.shape[1] // h, w, masks.shape[2] // w)
    return cells.sum(dim=(2, 4), dtype=torch.float32) / (cells.shape[2] * cells.shape[4])


def choose_pixels(coverage: Tensor, count: int, sampling: str = 'pad') -> tuple[Tensor, Tensor]:
    """Choose random pixels of instances, never of background.

    A pixel belongs to an instance that covers at least half of it. An instance that covers no half
    pixel gives the one it covers most: balance is there for the sake of small objects, so none of
    them is left out. An empty mask gives nothing.

    Args:
        coverage: (G, h, w), see :func:`coverage_of`.
        count: K, pixels of an instance.
        sampling: ``'pad'``: K of every instance, repeated where it has fewer; ``'cap'``: at most
            K, each once; ``'per_image'``: G * K of all instance pixels alike, so that large
            objects give most; ``'dense'``: all.

    Returns:
        gt_inds: (P,) the instance of each pixel, ascending but for ``'per_image'``.
        cells: (P,) row-major index into the map.
    """
    share = coverage.flatten(1)
    inside = share >= 0.5
    if len(share) == 0 or share.shape[1] == 0:
        return share.new_zeros(0, dtype=torch.long), share.new_zeros(0, dtype=torch.long)
    most, at = share.max(dim=1)
    tiny = ~inside.any(dim=1) & (most > 0)
    inside[tiny, at[tiny]] = True
    if sampling in ('dense', 'per_image'):
        gt_inds, cells = inside.nonzero(as_tuple=True)
        if sampling == 'per_image':
            chosen = torch.randperm(len(cells), device=cells.device)[: len(share) * count]
            gt_inds, cells = gt_inds[chosen], cells[chosen]
        return gt_inds, cells
    areas = inside.sum(dim=1)
    keys = torch.rand_like(share).masked_fill_(~inside, -1.0)
    order = keys.topk(min(count, share.shape[1]), dim=1).indices
    slots = torch.arange(count, device=share.device).expand(len(share), count)
    usable = areas.clamp(min=1, max=order.shape[1])[:, None]
    cells = order.gather(1, slots % usable)
    kept = areas[:, None] > (slots if sampling == 'cap' else torch.zeros_like(slots))
    gt_inds = torch.arange(len(share), device=share.device)[:, None].expand_as(cells)
    return gt_inds[kept], cells[kept]
