"""Multi-scale deformable attention as plain tensor operations.

This is what runs where no compiled kernel fits, and what the kernels are tested against. It
gathers the four neighbours of every point itself instead of using ``grid_sample``, because the
rules at the border differ: a neighbour outside the level is never read, a point outside has
exactly zero gradients, and so has one at a coordinate of exactly -1.

Axes: B images, S = sum of H·W over levels, M heads, C channels of a head, Q queries, L levels,
P points.
"""

from collections.abc import Iterable, Iterator, Sequence
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


def arithmetic_dtype(value: Tensor) -> torch.dtype:
    """Return the dtype computed in: float64 for float64, else float32."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def part_of(level: Level | PointLevels, i: int) -> slice:
    """Return the levels of the operands that the i-th entry of a list of levels stands for."""
    return slice(None) if isinstance(level, PointLevels) else slice(i, i + 1)


def size_of(
    level: Level | PointLevels, points_shape: tuple[int, ...]
) -> tuple[int | Tensor, int | Tensor]:
    """Return height and width, to broadcast against (B, Q, M, levels, P).

    Args:
        level: An entry of a list of levels.
        points_shape: (B, Q, M, L, P).
    """
    if isinstance(level, PointLevels):
        shape = points_shape[3:]
        return level.height.view(shape), level.width.view(shape)
    return level.height, level.width


class Samples(NamedTuple):
    """Points of one entry of a list of levels; (B, Q, M, levels, P) each."""

    x: Tensor  # in pixels; the centre of the first one is 0
    y: Tensor
    weight: Tensor

    def side_by_side(self) -> 'Samples':
        """Make (B, Q, M, levels * P) of them."""
        return Samples(*(tensor.flatten(3) for tensor in self))


def _find_rows(points: Neighbours, level: Level | PointLevels, value: Tensor) -> Tensor:
    """Return the (4, B, Q, M, P) rows of the neighbours in the values flattened to (B*S*M, C)."""
    b, s, m, _ = value.shape
    batch = torch.arange(b, device=value.device).view(b, 1, 1, 1)
    head = torch.arange(m, device=value.device).view(1, 1, m, 1)
    row = torch.where(points.valid, level.start + points.pixel, 0)
    return (batch * s + row) * m + head


def sample(
    value: Tensor, queries: int, levels: Sequence[Level | PointLevels], points: Iterable[Samples]
) -> Tensor:
    """Add up the samples of all levels, weighted.

    Args:
        value: (B, S, M, C).
        queries: Q.
        levels: levels inside the S rows of ``value``.
        points: those of every entry of ``levels``.

    Returns:
        (B, Q, M*C) in the dtype of ``value``.
    """
    b, s, m, c = value.shape
    flat = value.reshape(b * s * m, c).to(arithmetic_dtype(value))
    output = flat.new_zeros((b, queries, m, c))
    for level, place in zip(levels, points, strict=True):
        if level.is_empty:
            continue
        x, y, attention = place.side_by_side()
        found = find_neighbours(x, y, level.height, level.width)
        weight = attention * found.weight
        weight = torch.where(found.valid, weight, torch.zeros_like(weight))
        rows = _find_rows(found, level, value)
        output = output + (weight.unsqueeze(-1) * gather(flat, rows, found.valid)).sum(dim=(0, 4))
    return output.reshape(b, queries, m * c).to(value.dtype)


def differentiate_samples(
    grad_output: Tensor,
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    points: Iterable[Samples],
) -> tuple[Tensor, list[Samples]]:
    """Compute the gradients of ``sum(grad_output * sample(...))``.

    Args:
        grad_output: (B, Q, M*C).
        value: (B, S, M, C).
        levels: levels inside the S rows of ``value``.
        points: those of every entry of ``levels``.

    Returns:
        The gradient of ``value`` in its dtype, and those of the points of every entry.
    """
    b, s, m, c = value.shape
    dtype = arithmetic_dtype(value)
    flat = value.reshape(b * s * m, c).to(dtype)
    upstream = grad_output.to(dtype).reshape(b, grad_output.shape[1], m, 1, c)
    grad_flat = torch.zeros_like(flat)
    gradients = []
    for level, place in zip(levels, points, strict=True):
        if level.is_empty:
            gradients.append(Samples(*(torch.zeros_like(place.weight) for _ in range(3))))
            continue
        x, y, attention = place.side_by_side()
        found = find_neighbours(x, y, level.height, level.width)
        weight = attention * found.weight
        weight = torch.where(found.valid, weight, torch.zeros_like(weight))
        spread = torch.where(found.valid.unsqueeze(-1), weight.unsqueeze(-1) * upstream, 0.0)
        rows = _find_rows(found, level, value)
        grad_flat = grad_flat.index_add(0, rows.flatten(), spread.flatten(0, -2))
        d = (gather(flat, rows, found.valid) * upstream).sum(-1)
        d = torch.where(found.valid, d, torch.zeros_like(d))
        along = _point_gradients(d, found, attention)
        gradients.append(Samples(*(g.reshape(place.weight.shape) for g in along)))
    return grad_flat.view(b, s, m, c).to(value.dtype), gradients


def _point_gradients(d: Tensor, points: Neighbours, attention: Tensor) -> Samples:
    """Gradients of points from the dot products of the upstream gradient with the neighbours."""
    d00, d01, d10, d11 = d.unbind(0)
    fx, fy = points.fx, points.fy
    inside = points.valid.any(0)
    x = attention * ((1 - fy) * (d01 - d00) + fy * (d11 - d10))
    y = attention * ((1 - fx) * (d10 - d00) + fx * (d11 - d01))
    weight = (1 - fy) * ((1 - fx) * d00 + fx * d01) + fy * ((1 - fx) * d10 + fx * d11)
    return Samples(*(torch.where(inside, g, torch.zeros_like(g)) for g in (x, y, weight)))


def _samples(
    value: Tensor, levels: Sequence[Level | PointLevels], locations: Tensor, weights: Tensor
) -> Iterator[Samples]:
    """Points of every entry of ``levels``, from locations given in sizes of the levels."""
    dtype = arithmetic_dtype(value)
    for i, level in enumerate(levels):
        part = (slice(None),) * 3 + (part_of(level, i),)
        height, width = size_of(level, weights.shape)
        place, weight = locations[part].to(dtype), weights[part].to(dtype)
        yield Samples(place[..., 0] * width - 0.5, place[..., 1] * height - 0.5, weight)


def reference_forward(
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sample ``value`` at the locations and add the samples with their weights.

    Args:
        value: (B, S, M, C).
        levels: L levels inside the S rows of ``value``, or one entry for the points of all.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y), 0..1 across the level.
        attention_weights: (B, Q, M, L, P), used as given.

    Returns:
        (B, Q, M*C) in the dtype of ``value``.

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    points = _samples(value, levels, sampling_locations, attention_weights)
    return sample(value, sampling_locations.shape[1], levels, points)


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
        levels: L levels inside the S rows of ``value``, or one entry for the points of all.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y).
        attention_weights: (B, Q, M, L, P).

    Returns:
        Gradients of ``value``, ``sampling_locations`` and ``attention_weights`` in their dtypes.
    """
    points = _samples(value, levels, sampling_locations, attention_weights)
    grad_value, along = differentiate_samples(grad_output, value, levels, points)
    if not levels:
        return grad_value, zeros_like(sampling_locations), zeros_like(attention_weights)
    grad_locations = []
    for level, g in zip(levels, along, strict=True):
        height, width = size_of(level, attention_weights.shape)
        grad_locations.append(torch.stack([g.x * width, g.y * height], -1))
    return (
        grad_value,
        torch.cat(grad_locations, 3).to(sampling_locations.dtype),
        torch.cat([g.weight for g in along], 3).to(attention_weights.dtype),
    )


def zeros_like(tensor: Tensor) -> Tensor:
    """Return zeros in the shape of a tensor, contiguous as every gradient."""
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format)
