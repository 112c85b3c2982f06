"""Deformable attention from reference points, offsets and logits as plain tensor operations.

The softmax and the way to pixel coordinates stand here; sampling is that of ``reference.py``. A
point lies at reference * size - 1/2 + offset * scale pixels: the scale is 1 beside a reference
(x, y), so an offset of one is one pixel, and size * box / (2 * P) beside (x, y, width, height).

Axes: B images, S = sum of H·W over levels, M heads, C channels of a head, Q queries, L levels,
P points, R = L or 1 if all levels share a reference point.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .reference import (
    Level,
    PointLevels,
    Samples,
    arithmetic_dtype,
    differentiate_samples,
    part_of,
    sample,
    size_of,
    zeros_like,
)


class _Part(NamedTuple):
    """The operands of one entry of a list of levels, in the arithmetic dtype."""

    reference: Tensor  # (B, Q, 1, levels or 1, 1, 2 or 4)
    offsets: Tensor  # (B, Q, M, levels, P, 2)
    weights: Tensor  # (B, Q, M, levels, P)
    height: int | Tensor
    width: int | Tensor

    def scale(self) -> tuple[float | Tensor, float | Tensor]:
        """Pixels along x and y for an offset of one."""
        if self.reference.shape[-1] == 2:
            return 1.0, 1.0
        unit = 0.5 / max(self.offsets.shape[4], 1)
        box = self.reference[..., 2:]
        return box[..., 0] * self.width * unit, box[..., 1] * self.height * unit

    def samples(self) -> Samples:
        """Where the points lie."""
        scale_x, scale_y = self.scale()
        x = self.reference[..., 0] * self.width - 0.5 + self.offsets[..., 0] * scale_x
        y = self.reference[..., 1] * self.height - 0.5 + self.offsets[..., 1] * scale_y
        return Samples(x, y, self.weights)


def _softmax(value: Tensor, attention_logits: Tensor) -> Tensor:
    # Not softmax's own dtype argument: exporters to ONNX take it for that of the result alone.
    weights = attention_logits.to(arithmetic_dtype(value)).flatten(3).softmax(-1)
    return weights.view(attention_logits.shape)


def _parts(
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    weights: Tensor,
) -> Iterator[_Part]:
    dtype = arithmetic_dtype(value)
    shared = reference_points.shape[2] == 1
    for i, level in enumerate(levels):
        part = part_of(level, i)
        reference = reference_points if shared else reference_points[:, :, part]
        yield _Part(
            reference[:, :, None, :, None].to(dtype),
            sampling_offsets[:, :, :, part].to(dtype),
            weights[:, :, :, part],
            *size_of(level, weights.shape),
        )


def fused_forward(
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """Sample ``value`` around the reference points; weigh the samples by the softmax.

    Args:
        value: (B, S, M, C).
        levels: L levels inside the S rows of ``value``, or one entry for the points of all.
        reference_points: (B, Q, R, 2) as (x, y) or (B, Q, R, 4) as (x, y, width, height).
        sampling_offsets: (B, Q, M, L, P, 2) as (x, y).
        attention_logits: (B, Q, M, L, P).

    Returns:
        (B, Q, M*C) in the dtype of ``value``.

    Source: Deformable DETR (arXiv:2010.04159), equation 3.
    """
    weights = _softmax(value, attention_logits)
    parts = _parts(value, levels, reference_points, sampling_offsets, weights)
    points = (part.samples() for part in parts)
    return sample(value, sampling_offsets.shape[1], levels, points)


def fused_backward(
    grad_output: Tensor,
    value: Tensor,
    levels: Sequence[Level | PointLevels],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the four gradients of ``sum(grad_output * output)``.

    Built from differentiable operations, so it also serves for second derivatives.

    Args:
        grad_output: (B, Q, M*C).
        value: (B, S, M, C).
        levels: L levels inside the S rows of ``value``, or one entry for the points of all.
        reference_points: (B, Q, R, 2 or 4).
        sampling_offsets: (B, Q, M, L, P, 2).
        attention_logits: (B, Q, M, L, P).

    Returns:
        Gradients of ``value``, ``reference_points``, ``sampling_offsets`` and
        ``attention_logits`` in their dtypes.
    """
    weights = _softmax(value, attention_logits)
    parts = list(_parts(value, levels, reference_points, sampling_offsets, weights))
    points = [part.samples() for part in parts]
    grad_value, along = differentiate_samples(grad_output, value, levels, points)
    operands = (reference_points, sampling_offsets, attention_logits)
    if not parts:
        a, b, c = (zeros_like(operand) for operand in operands)
        return grad_value, a, b, c
    grad_weights = torch.cat([g.weight for g in along], 3)
    total = (weights * grad_weights).sum((3, 4), keepdim=True)
    grad_offsets = [_offset_gradients(part, g) for part, g in zip(parts, along, strict=True)]
    to_levels = [_reference_gradients(part, g) for part, g in zip(parts, along, strict=True)]
    grad_reference = torch.cat(to_levels, 2)
    if reference_points.shape[2] == 1:
        grad_reference = grad_reference.sum(2, keepdim=True)
    return (
        grad_value,
        grad_reference.to(reference_points.dtype),
        torch.cat(grad_offsets, 3).to(sampling_offsets.dtype),
        (weights * (grad_weights - total)).to(attention_logits.dtype),
    )


def _finite(factor: float | Tensor) -> float | Tensor:
    """Replace what is not finite by zero: it belongs to points outside, whose gradient is zero."""
    if not isinstance(factor, Tensor):
        return factor
    return torch.where(factor.isfinite(), factor, torch.zeros_like(factor))


def _offset_gradients(part: _Part, along: Samples) -> Tensor:
    """(B, Q, M, levels, P, 2) of one part, from those of its pixel coordinates."""
    scale_x, scale_y = part.scale()
    return torch.stack([along.x * _finite(scale_x), along.y * _finite(scale_y)], -1)


def _reference_gradients(part: _Part, along: Samples) -> Tensor:
    """(B, Q, levels, 2 or 4) of one part, from those of its pixel coordinates."""
    x, y = along.x * part.width, along.y * part.height
    gradients = [x, y]
    if part.reference.shape[-1] == 4:
        unit = 0.5 / max(part.offsets.shape[4], 1)
        offset_x, offset_y = (_finite(offset) for offset in part.offsets.unbind(-1))
        gradients += [x * offset_x * unit, y * offset_y * unit]
    return torch.stack(gradients, -1).sum((2, 4))


def locations_and_weights(
    value: Tensor,
    spatial_shapes: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute what ``ms_deform_attn`` takes, for targets that know only that operator.

    Args:
        value: (B, S, M, C), for its dtype.
        spatial_shapes: (L, 2) as (h, w).
        reference_points: (B, Q, R, 2 or 4).
        sampling_offsets: (B, Q, M, L, P, 2).
        attention_logits: (B, Q, M, L, P).

    Returns:
        (B, Q, M, L, P, 2) locations and (B, Q, M, L, P) weights, float64 for a float64 value, else
        float32.
    """
    dtype = arithmetic_dtype(value)
    reference = reference_points[:, :, None, :, None].to(dtype)
    offsets = sampling_offsets.to(dtype)
    if reference.shape[-1] == 2:
        # A level without pixels has no point inside, wherever that is.
        sizes_xy = spatial_shapes.flip(-1).clamp(min=1).to(offsets)
        locations = reference + offsets / sizes_xy[:, None]
    else:
        box = reference[..., 2:] * (0.5 / max(offsets.shape[4], 1))
        locations = reference[..., :2] + offsets * box
    return locations, _softmax(value, attention_logits)
