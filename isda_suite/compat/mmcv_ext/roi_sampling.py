"""Sampling points inside regions of interest and bilinear reading at them.

Shared by the region operators that torchvision does not have. N regions, C channels, R sampling
points of a region, (P, Q) bins of a region in rows and columns, (I, J) points of a bin.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Elements of the largest intermediate tensor; more regions are worked on one part after the other.
_MAX_ELEMENTS = 2**24


@dataclass(frozen=True)
class PoolGeometry:
    """How regions become bins, in the words of mmcv's arguments."""

    pooled_height: int
    pooled_width: int
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = True


@dataclass(frozen=True)
class SamplingPoints:
    """Points of some of the regions.

    Args:
        regions: (n,) indices of the regions.
        y: (n, P, I) rows on the feature map.
        x: (n, Q, J) columns on the feature map.
        height: (n,) heights of the regions on the feature map.
        width: (n,) widths.
    """

    regions: Tensor
    y: Tensor
    x: Tensor
    height: Tensor
    width: Tensor

    def spread(self) -> tuple[Tensor, Tensor]:
        """Return rows and columns of all points, each (n, P, Q, I, J)."""
        regions, bins_y, points_y = self.y.shape
        shape = (regions, bins_y, self.x.shape[1], points_y, self.x.shape[2])
        return (
            self.y[:, :, None, :, None].expand(shape),
            self.x[:, None, :, None, :].expand(shape),
        )


def sampling_points(
    rois: Tensor, channels: int, geometry: PoolGeometry
) -> Iterator[SamplingPoints]:
    """Yield the sampling points of all regions, those with equally many points together.

    Args:
        rois: (N, 5) image index and box in pixels of the input.
        channels: C, for the size of the parts.
        geometry: Without a sampling ratio, every bin gets about one point per cell.

    Yields:
        Parts that together hold every region that has points.
    """
    scaled = rois[:, 1:] * geometry.spatial_scale - (0.5 if geometry.aligned else 0.0)
    start_x, start_y, end_x, end_y = scaled.unbind(1)
    width, height = end_x - start_x, end_y - start_y
    if not geometry.aligned:
        width, height = width.clamp(min=1), height.clamp(min=1)
    bins_y, bins_x = geometry.pooled_height, geometry.pooled_width
    if geometry.sampling_ratio > 0:
        points = torch.full((len(rois), 2), geometry.sampling_ratio, device=rois.device)
    else:
        points = torch.stack([height / bins_y, width / bins_x], 1).ceil().long()
    for points_y, points_x in torch.unique(points, dim=0).tolist():
        if points_y <= 0 or points_x <= 0:
            continue
        regions = (points == points.new_tensor([points_y, points_x])).all(1).nonzero()[:, 0]
        elements = channels * bins_y * bins_x * points_y * points_x
        size = max(1, _MAX_ELEMENTS // elements)
        for part in regions.split(size):  # type: ignore[no-untyped-call]
            yield SamplingPoints(
                regions=part,
                y=_bin_points(start_y[part], height[part], bins_y, points_y),
                x=_bin_points(start_x[part], width[part], bins_x, points_x),
                height=height[part],
                width=width[part],
            )


def _bin_points(start: Tensor, length: Tensor, bins: int, points: int) -> Tensor:
    """(n, bins, points) equally spaced positions in the middle of each bin's cells."""
    position = torch.arange(bins * points, device=start.device) + 0.5
    position = position.view(1, bins, points).to(start.dtype) / points
    return start[:, None, None] + length[:, None, None] / bins * position


def sample_bilinear(features: Tensor, images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Read feature maps at fractional positions.

    Positions up to one cell outside read the border, those farther away read 0.

    Args:
        features: (B, C, H, W).
        images: (n,) index of the image of each region.
        y: (n, ...) rows.
        x: (n, ...) columns.

    Returns:
        (n, ..., C), differentiable by features and positions.
    """
    _, channels, rows, columns = features.shape
    inside = (y >= -1) & (y <= rows) & (x >= -1) & (x <= columns)
    y, x = y.clamp(0, rows - 1), x.clamp(0, columns - 1)
    top, left = y.detach().floor(), x.detach().floor()
    down, right = (y - top).unsqueeze(-1), (x - left).unsqueeze(-1)
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    first_row = images.view(-1, *[1] * (y.dim() - 1)) * rows

    def read(row: Tensor, column: Tensor) -> Tensor:
        cell = (first_row + row.long().clamp(max=rows - 1)) * columns
        return table[cell + column.long().clamp(max=columns - 1)]

    upper = read(top, left) * (1 - right) + read(top, left + 1) * right
    lower = read(top + 1, left) * (1 - right) + read(top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down) * inside.unsqueeze(-1)
