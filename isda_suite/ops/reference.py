"""Multi-scale deformable attention as plain tensor operations.

This is what runs where no compiled kernel fits, and what the kernels are tested against. It
gathers the four neighbours of every point itself instead of using ``grid_sample``, because the
rules at the border differ: a neighbour outside the level is never read, a point outside has
exactly zero gradients, and so has one at a coordinate of exactly -1.

Axes: B images, S = sum of H·W over levels, M heads, C channels of a head, Q queries, L levels,
P points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .bilinear import Neighbours, find_neighbours, gather


class Level(NamedTuple):
    """One level: its size, and the row of ``value`` where it starts."""

    height: int
    width: int
    start: int

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixel."""
        return self.height * self.width == 0


class PointLevels(NamedTuple):
    """The level of every point, for points of different levels side by side; (P,) each."""

    height: Tensor
    width: Tensor
    start: Tensor

    @property
    def is_empty(self) -> bool:
        """False: points of empty levels have no neighbour inside, which is enough."""
        return False


def _find_points(
    locations: Tensor, level: Level | PointLevels, rows: int
) -> tuple[Neighbours, Tensor]:
    """Locate the neighbours of (B, Q, M, P, 2) locations given as (x, y) in level sizes.

    Returns:
        The neighbours, and their (4, B, Q, M, P) rows of the values flattened to (B*S*M, C).
    """
    b, _, m, _, _ = locations.shape
    x = locations[..., 0] * level.width - 0.5
    y = locations[..., 1] * level.height - 0.5
    points = find_neighbours(x, y, level.height, level.width)
    batch = torch.arange(b, device=x.device).view(b, 1, 1, 1)
    head = torch.arange(m, device=x.device).view(1, 1, m, 1)
    row = torch.where(points.valid, level.start + points.pixel, 0)
    return points, (batch * rows + row) * m + head


def arithmetic_dtype(value: Tensor) -> torch.dtype:
    """Return the dtype computed in: float64 for float64, else float32."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def reference_forward(
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sample ``value`` at the locations and add the samples with their weights.

    Args:
        value: (B, S, M, C).
        levels: L levels inside the S rows of ``value``.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y), 0..1 across the level.
        attention_weights: (B, Q, M, L, P), used as given.

    Returns:
        (B, Q, M*C) in the dtype of ``value``.

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    b, s, m, c = value.shape
    q = sampling_locations.shape[1]
    dtype = arithmetic_dtype(value)
    flat = value.reshape(b * s * m, c).to(dtype)
    locations, attention = sampling_locations.to(dtype), attention_weights.to(dtype)
    output = flat.new_zeros((b, q, m, c))
    for i, level in enumerate(levels):
        if level.is_empty:
            continue
        points, rows = _find_points(locations[:, :, :, i], level, s)
        weight = attention[:, :, :, i] * points.weight
        weight = torch.where(points.valid, weight, torch.zeros_like(weight))
        output = output + (weight.unsqueeze(-1) * gather(flat, rows, points.valid)).sum(dim=(0, 4))
    return output.reshape(b, q, m * c).to(value.dtype)


def reference_backward(
    grad_output: Tensor,
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the three gradients of ``sum(grad_output * output)``.

    Built from differentiable operations, so it also serves for second derivatives.

    Args:
        grad_output: (B, Q, M*C).
        value: (B, S, M, C).
        levels: L levels inside the S rows of ``value``.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y).
        attention_weights: (B, Q, M, L, P).

    Returns:
        Gradients of ``value``, ``sampling_locations`` and ``attention_weights`` in their dtypes.
    """
    b, s, m, c = value.shape
    q = sampling_locations.shape[1]
    dtype = arithmetic_dtype(value)
    flat = value.reshape(b * s * m, c).to(dtype)
    locations, attention = sampling_locations.to(dtype), attention_weights.to(dtype)
    upstream = grad_output.to(dtype).reshape(b, q, m, 1, c)
    grad_flat = torch.zeros_like(flat)
    if not levels:
        return (
            torch.zeros_like(value, memory_format=torch.contiguous_format),
            torch.zeros_like(sampling_locations, memory_format=torch.contiguous_format),
            torch.zeros_like(attention_weights, memory_format=torch.contiguous_format),
        )
    nothing = torch.zeros_like(attention[:, :, :, 0])
    grad_locations, grad_attention = [], []
    for i, level in enumerate(levels):
        if level.is_empty:
            grad_locations.append(torch.stack([nothing, nothing], -1))
            grad_attention.append(nothing)
            continue
        points, rows = _find_points(locations[:, :, :, i], level, s)
        weight = attention[:, :, :, i] * points.weight
        weight = torch.where(points.valid, weight, torch.zeros_like(weight))
        spread = torch.where(points.valid.unsqueeze(-1), weight.unsqueeze(-1) * upstream, 0.0)
        grad_flat = grad_flat.index_add(0, rows.flatten(), spread.flatten(0, -2))
        d = (gather(flat, rows, points.valid) * upstream).sum(-1)
        d = torch.where(points.valid, d, torch.zeros_like(d))
        along_xy, along_weight = _point_gradients(d, points, attention[:, :, :, i], level)
        grad_locations.append(along_xy)
        grad_attention.append(along_weight)
    return (
        grad_flat.view(b, s, m, c).to(value.dtype),
        torch.stack(grad_locations, 3).to(sampling_locations.dtype),
        torch.stack(grad_attention, 3).to(attention_weights.dtype),
    )


def _point_gradients(
    d: Tensor, points: Neighbours, attention: Tensor, level: Level | PointLevels
) -> tuple[Tensor, Tensor]:
    """Gradients of one level's locations and weights from the dot products with the neighbours."""
    d00, d01, d10, d11 = d.unbind(0)
    fx, fy = points.fx, points.fy
    inside = points.valid.any(0)
    along_x = attention * level.width * ((1 - fy) * (d01 - d00) + fy * (d11 - d10))
    along_y = attention * level.height * ((1 - fx) * (d10 - d00) + fx * (d11 - d01))
    weight = (1 - fy) * ((1 - fx) * d00 + fx * d01) + fy * ((1 - fx) * d10 + fx * d11)
    zero = torch.zeros_like(weight)
    xy = torch.stack([torch.where(inside, g, zero) for g in (along_x, along_y)], -1)
    return xy, torch.where(inside, weight, zero)
