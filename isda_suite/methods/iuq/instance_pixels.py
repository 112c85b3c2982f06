"""Which pixels of an image are stored: the same number of each instance, background if asked."""

import torch
from torch import Tensor

SAMPLINGS = ('pad', 'cap', 'per_image', 'dense')


def choose_pixels(coverage: Tensor, count: int, sampling: str = 'pad') -> tuple[Tensor, Tensor]:
    """Choose random pixels of instances, never of background.

    A pixel belongs to an instance that covers at least half of it. An instance that covers no half
    pixel gives the one it covers most: balance is there for the sake of small objects, so none of
    them is left out. An empty mask gives nothing.

    Args:
        coverage: (G, h, w), see
            :func:`isda_suite.layers.mask_coverage.coverage_of`.
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


def choose_background(coverage: Tensor, image_hw: tuple[int, int], count: int) -> Tensor:
    """Choose random pixels that no instance covers any part of.

    Args:
        coverage: (G, h, w), see :func:`isda_suite.layers.mask_coverage.coverage_of`.
        image_hw: Cells of the map that show the image; the others are padding.
        count: Pixels wanted.

    Returns:
        (P,) different row-major indices into the map, P at most ``count``.
    """
    free = coverage.sum(dim=0) == 0
    free[image_hw[0] :] = False
    free[:, image_hw[1] :] = False
    cells = free.flatten().nonzero().flatten()
    return cells[torch.randperm(len(cells), device=cells.device)[:count]]
