"""From attention maps to features of the mask of an instance in a frame.

What depends on a frame alone is computed once per frame and shared by all instances
(:meth:`MaskHead.share`); only what depends on the pair of instance and frame runs per pair.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.ops import DeformConv2d


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 at least, also under autocast; returns the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        if x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class SharedMaps(NamedTuple):
    """What all instances of a frame have in common; the first axis is frames.

    Attributes:
        memory: (T, C + M, h, w), the first convolution over the memory alone, with its bias.
        coarse: (T, C / 2, ·, ·), C4 adapted; to add after the first upsampling.
        middle: (T, C / 4, ·, ·), C3 adapted.
        fine: (T, C / 8, h4, w4), C2 adapted.
        offsets: (T, 18, h4, w4), what ``fine`` adds to the offsets, with their bias.
    """

    memory: Tensor
    coarse: Tensor
    middle: Tensor
    fine: Tensor
    offsets: Tensor


class MaskHead(nn.Module):
    """From the attention maps of an instance in a frame to features of its mask there.

    The first convolution sees the C channels of the memory and the M maps of an instance. Its sum
    over channels is split: the memory's part, 48 times the work of the other at C = 384, is the
    same for every instance. Offsets are linear in what they are predicted from, so the adapter's
    part is shared too, and the rest is computed before the upsampling, at a quarter of the pixels.

    ==========  ==================================================  ================
    step        what                                                channels
    ==========  ==================================================  ================
    lay1, lay2  3x3, GN, ReLU at the memory's size                  C + M, C / 2
    lay3, lay4  + adapter of the next finer level, 3x3, GN, ReLU    C / 4, C / 8
    dcn         + adapter, deformable 3x3 of version 1, GN, ReLU    C / 16
    ==========  ==================================================  ================

    Axes: N slots, T frames, C embed dims, M attention maps, (h, w) = size of the memory.

    Args:
        embed_dims: C, a multiple of 16.
        num_maps: M.
        in_channels: Channels of C2, C3, C4.
        num_groups: Groups of every normalisation.

    Raises:
        ModelConfigError: if C is no multiple of 16, or a width of no multiple of the groups.
    """

    def __init__(
        self, embed_dims: int, num_maps: int, in_channels: Sequence[int], num_groups: int = 8
    ) -> None:
        super().__init__()
        c = embed_dims
        widths = (c + num_maps, *(channels_of(c, divisor, num_groups) for divisor in (2, 4, 8, 16)))
        require_groups('embed_dims + num_heads', widths[0], num_groups)
        self.embed_dims = embed_dims
        self.lay1 = _conv3x3(widths[0], widths[0])
        self.lay2 = _conv3x3(widths[0], widths[1])
        self.lay3 = _conv3x3(widths[1], widths[2])
        self.lay4 = _conv3x3(widths[2], widths[3])
        self.conv_offset = nn.Conv2d(widths[3], 18, 1)
        self.dcn = DeformConv2d(widths[3], widths[4], 3, padding=1)
        self.gn1, self.gn2, self.gn3, self.gn4, self.gn5 = (
            GroupNorm(num_groups, w) for w in widths
        )
        fine, middle, coarse = in_channels
        self.adapter1 = nn.Conv2d(coarse, widths[1], 1)
        self.adapter2 = nn.Conv2d(middle, widths[2], 1)
        self.adapter3 = nn.Conv2d(fine, widths[3], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of them have one
        nn.init.zeros_(self.conv_offset.weight)

    def share(self, memory: Tensor, feats: Sequence[Tensor]) -> SharedMaps:
        """Compute what does not depend on an instance.

        Args:
            memory: (T, C, h, w).
            feats: C2, C3, C4 of the frames, each (T, ·, ·, ·).
        """
        weight = self.lay1.weight[:, : self.embed_dims]
        c2, c3, c4 = feats
        fine = self.adapter3(c2)
        return SharedMaps(
            F.conv2d(memory, weight, self.lay1.bias, padding=1),
            self.adapter1(c4),
            self.adapter2(c3),
            fine,
            self.conv_offset(fine),
        )

    def forward(self, maps: Tensor, shared: SharedMaps) -> Tensor:
        """Compute mask features.

        Args:
            maps: (N, T, M, h, w) of N slots of one clip; N may be 0.
            shared: From :meth:`share`, of the T frames of this clip.

        Returns:
            (N, T, C / 16, h4, w4), of the size of C2.
        """
        n, t = maps.shape[:2]
        own = F.conv2d(maps.flatten(0, 1), self.lay1.weight[:, self.embed_dims :], padding=1)
        x = F.relu(self.gn1(_add_per_frame(own, shared.memory)))
        x = F.relu(self.gn2(self.lay2(x)))
        x = F.relu(self.gn3(self.lay3(_upsample_onto(x, shared.coarse))))
        x = F.relu(self.gn4(self.lay4(_upsample_onto(x, shared.middle))))
        offset = _upsample_onto(F.conv2d(x, self.conv_offset.weight), shared.offsets)
        x = F.relu(self.gn5(self.dcn(_upsample_onto(x, shared.fine), offset)))
        return x.view(n, t, *x.shape[1:])


def _conv3x3(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1)


def channels_of(embed_dims: int, divisor: int, num_groups: int) -> int:
    """Divide; refuse a width that is no whole number or cannot be normalised in so many groups."""
    if embed_dims % divisor:
        raise ModelConfigError(
            f'embed_dims: the mask branch needs a multiple of {divisor}, got {embed_dims}'
        )
    require_groups(f'embed_dims / {divisor}', embed_dims // divisor, num_groups)
    return embed_dims // divisor


def require_groups(name: str, width: int, num_groups: int) -> None:
    """Refuse a width, called ``name``, that is no multiple of the groups."""
    if width % num_groups:
        raise ModelConfigError(
            f'{name}: the mask branch normalises in {num_groups} groups and needs a multiple of '
            f'that, got {width}; change the groups or embed_dims (a multiple of 128 fits the '
            'defaults)'
        )


def _add_per_frame(x: Tensor, shared: Tensor) -> Tensor:
    """Add (T, c, h, w) to (N * T, c, h, w), into the latter."""
    x.view(x.shape[0] // shared.shape[0], *shared.shape).add_(shared)
    return x


def _upsample_onto(x: Tensor, lateral: Tensor) -> Tensor:
    """Bring (N * T, c, ·, ·) to the size of (T, c, h, w) by repetition and add the latter."""
    return _add_per_frame(F.interpolate(x, size=lateral.shape[-2:], mode='nearest'), lateral)
