"""The sizes that the operators are measured with, and seeded operands for them."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor


class AttentionOperands(NamedTuple):
    """Operands of deformable attention; shapes as in ``isda_suite.ops.ms_deform_attn``."""

    value: Tensor
    shapes: Tensor
    starts: Tensor
    locations: Tensor
    weights: Tensor
    pairs: list[tuple[int, int]]  # the table of shapes on the host


class FusedOperands(NamedTuple):
    """The same before softmax and addition: (B, Q, L, 2) points, offsets in pixels, logits."""

    value: Tensor
    shapes: Tensor
    starts: Tensor
    reference: Tensor
    offsets: Tensor
    logits: Tensor
    pairs: list[tuple[int, int]]


class ConvolutionOperands(NamedTuple):
    """Operands of a deformable convolution with a 3x3 kernel, padding 1, one group."""

    input: Tensor
    offset: Tensor
    mask: Tensor | None  # None: version 1
    weight: Tensor
    bias: Tensor | None


Operands: TypeAlias = AttentionOperands | FusedOperands | ConvolutionOperands

LEAVES = {
    'ms_deform_attn': ('value', 'locations', 'weights'),
    'ms_deform_attn_fused': ('value', 'offsets', 'logits'),
    'deform_conv2d': ('input', 'offset', 'mask', 'weight', 'bias'),
}
"""The operands that gradients are taken of."""


@dataclass(frozen=True)
class AttentionCase:
    """Sizes of one call of deformable attention on one image.

    Attributes:
        shapes: (h, w) of every level.
        channels: of one head.
        points: of one level.
        queries: their number; ``None`` makes every cell of every level a query.
        heads: their number.
        fused: from offsets and logits instead of locations and weights.
    """

    shapes: tuple[tuple[int, int], ...]
    channels: int
    points: int
    queries: int | None = None
    heads: int = 8
    fused: bool = False

    @property
    def operator(self) -> str:
        """Name in ``isda_suite.ops``."""
        return 'ms_deform_attn_fused' if self.fused else 'ms_deform_attn'

    @property
    def tokens(self) -> int:
        """S, the cells of all levels."""
        return sum(h * w for h, w in self.shapes)

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.tokens if self.queries is None else self.queries

    @property
    def samples(self) -> int:
        """Sampled points of all queries, heads and levels."""
        return self.num_queries * self.heads * len(self.shapes) * self.points

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return 1, self.num_queries, self.heads * self.channels

    def make(self, sampling: str, dtype: torch.dtype, seed: int = 0) -> Operands:
        """Make seeded operands on the CPU.

        Args:
            sampling: ``local``, three pixels of each level around the query's point, or
                ``uniform``, anywhere in [-0.05, 1.05].
            dtype: of ``value``. All others are float32, as autocast leaves them.
            seed: of the random numbers.
        """
        generator = torch.Generator().manual_seed(seed)
        shapes = torch.tensor(self.shapes)
        areas = shapes.prod(1)
        starts = areas.cumsum(0) - areas
        sizes_xy = shapes.flip(-1)[:, None]
        size = (1, self.num_queries, self.heads, len(self.shapes), self.points)
        reference = self._reference(generator).view(1, -1, 1, 1, 1, 2)
        if sampling == 'local':
            offsets = torch.randn(*size, 2, generator=generator) * 3
            locations = reference + offsets / sizes_xy
        else:
            locations = torch.rand(*size, 2, generator=generator) * 1.1 - 0.05
        locations = _off_pixels(locations, sizes_xy)
        shape = (1, self.tokens, self.heads, self.channels)
        value = torch.randn(shape, generator=generator).to(dtype)
        logits = torch.randn(size, generator=generator)
        pairs = list(self.shapes)
        if not self.fused:
            weights = logits.flatten(3).softmax(-1).view(size)
            return AttentionOperands(value, shapes, starts, locations, weights, pairs)
        offsets = (locations - reference) * sizes_xy
        points = reference.view(1, -1, 1, 2).expand(-1, -1, len(self.shapes), -1).contiguous()
        return FusedOperands(value, shapes, starts, points, offsets, logits, pairs)

    def _reference(self, generator: torch.Generator) -> Tensor:
        """Centres of all cells of all levels, or random points: (Q, 2) as (x, y)."""
        if self.queries is not None:
            return torch.rand(self.queries, 2, generator=generator)
        points = []
        for h, w in self.shapes:
            y, x = torch.meshgrid(
                (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing='ij'
            )
            points.append(torch.stack([x, y], -1).view(-1, 2))
        return torch.cat(points)


@dataclass(frozen=True)
class ConvolutionCase:
    """Sizes of one call of deformable convolution: 3x3 kernel, padding 1, one deform group."""

    images: int
    channels: int
    out_channels: int
    size: tuple[int, int]
    version: int = 2
    operator = 'deform_conv2d'

    @property
    def pixels(self) -> int:
        """Output pixels of all images."""
        return self.images * self.size[0] * self.size[1]

    @property
    def samples(self) -> int:
        """Sampled points of all images, output pixels and taps."""
        return self.pixels * 9

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.images, self.out_channels, *self.size

    def make(self, sampling: str, dtype: torch.dtype, seed: int = 0) -> Operands:
        """Make seeded operands on the CPU; offsets are normal, 1.5 pixels, for any ``sampling``."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator)

        image = normal(self.images, self.channels, *self.size)
        weight = normal(self.out_channels, self.channels, 3, 3) / (9 * self.channels) ** 0.5
        offset = normal(self.images, 18, *self.size) * 1.5
        offset = offset.floor() + (offset - offset.floor()).clamp(1e-3, 1 - 1e-3)
        mask = bias = None
        if self.version == 2:
            mask = torch.rand((self.images, 9, *self.size), generator=generator).to(dtype)
            bias = normal(self.out_channels).to(dtype)
        return ConvolutionOperands(image.to(dtype), offset.to(dtype), mask, weight.to(dtype), bias)


Case: TypeAlias = AttentionCase | ConvolutionCase


def _off_pixels(locations: Tensor, sizes_xy: Tensor) -> Tensor:
    """Move points a thousandth of a pixel off whole coordinates.

    The derivative jumps there, so two correct implementations that round differently would differ.
    """
    pixels = locations.double() * sizes_xy - 0.5
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(1e-3, 1 - 1e-3)
    return ((pixels + 0.5) / sizes_xy).float()


def map_tensors(operands: Operands, change: Any, names: tuple[str, ...] | None = None) -> Operands:
    """Return the operands with ``change`` applied to the tensors called ``names`` (all)."""
    fields = operands._asdict()
    changed = {
        name: change(field)
        for name, field in fields.items()
        if isinstance(field, Tensor) and (names is None or name in names)
    }
    return operands._replace(**changed)


_IMAGE = ((100, 134), (50, 67), (25, 34), (13, 17))  # strides 8 to 64 of an 800x1066 image
_ATTENTION = {
    'encoder': AttentionCase(_IMAGE, 32, 4),
    'decoder': AttentionCase(_IMAGE, 32, 4, queries=300),
    'defvistr': AttentionCase((*[(10, 13)] * 36, (8, 20)), 48, 6),
}
CASES: dict[str, Case] = {
    **{f'msda_{name}': case for name, case in _ATTENTION.items()},
    'dcn_256_100x136': ConvolutionCase(1, 256, 256, (100, 136)),
    'dcn_256_50x68': ConvolutionCase(1, 256, 256, (50, 68)),
    'dcn_64_200x272': ConvolutionCase(1, 64, 64, (200, 272)),
    'dcn_mask_head': ConvolutionCase(10, 48, 24, (80, 104), version=1),
    **{f'msda_fused_{name}': replace(case, fused=True) for name, case in _ATTENTION.items()},
}
"""What is measured unless cases are named."""

TRIALS: dict[str, Case] = {
    'trial_msda': AttentionCase(((6, 8), (3, 4)), 16, 4),
    'trial_fused': AttentionCase(((6, 8), (3, 4)), 16, 4, fused=True),
    'trial_dcn': ConvolutionCase(1, 16, 16, (9, 11)),
}
"""Cases that take no time, to try a machine or this script out."""
