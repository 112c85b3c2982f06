"""The four neighbours of points between pixels, with the rules of all our operators at borders.

A point counts only strictly inside (-1, size) on both axes; a neighbour outside the map is never
read; NaN and infinite coordinates are outside.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Neighbours of points; the leading axis of 4 is (00, 01, 10, 11) as yx."""

    pixel: Tensor  # (4, ...) row * width + column, 0 where not valid
    valid: Tensor  # (4, ...) whether that neighbour lies inside the map
    weight: Tensor  # (4, ...) bilinear weight, 0 where not valid
    fx: Tensor  # (...) distance from the left neighbour
    fy: Tensor


def find_neighbours(x: Tensor, y: Tensor, height: int | Tensor, width: int | Tensor) -> Neighbours:
    """Locate the neighbours of points at pixel coordinates ``x`` and ``y`` of any one shape.

    Height and width of the map may differ from point to point.
    """
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    # NaN and infinity must not reach the conversion to integers, nor the gradient.
    x, y = (torch.where(inside, v, torch.zeros_like(v)) for v in (x, y))
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    pixel, valid, weight = [], [], []
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            xi, yi = x0.long() + dx, y0.long() + dy
            ok = inside & (xi >= 0) & (xi < width) & (yi >= 0) & (yi < height)
            pixel.append(torch.where(ok, yi * width + xi, 0))
            valid.append(ok)
            weight.append(torch.where(ok, wy * wx, torch.zeros_like(wx)))
    return Neighbours(torch.stack(pixel), torch.stack(valid), torch.stack(weight), fx, fy)


def gather(flat: Tensor, rows: Tensor, valid: Tensor) -> Tensor:
    """Take ``rows`` of the (N, C) values: (*rows.shape, C), 0 where not valid."""
    found = flat.index_select(0, rows.flatten()).view(*rows.shape, flat.shape[1])
    return torch.where(valid.unsqueeze(-1), found, torch.zeros_like(found))
