"""Deformable convolutions as modules, with mmcv's names, arguments and parameters."""

import math
from typing import Any

import torch
from mmengine.utils import deprecated_api_warning
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from isda_suite.registry import MODELS

from .deform_conv2d import deform_conv2d

_Size = int | tuple[int, int]
_renamed: Any = deprecated_api_warning  # untyped in mmengine


class _DeformableConvolution(nn.Module):
    """What both versions share: sizes and the weight, uninitialised.

    Args:
        in_channels: C, a multiple of ``groups`` and of ``deform_groups``.
        out_channels: O, a multiple of ``groups``.
        kernel_size: One number or (y, x), as the next three.
        stride: Step of the kernel.
        padding: Zeros around the input.
        dilation: Distance of the taps.
        groups: Groups of the weight.
        deform_groups: G, runs of input channels with offsets of their own.

    Raises:
        ValueError: if the channels are no multiples.
    """

    transposed = False  # as nn.Conv2d, which mmcv's builders look at
    output_padding = (0,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size,
        padding: _Size,
        dilation: _Size,
        groups: int,
        deform_groups: int,
    ) -> None:
        # By name: under patch_mmcv mmcv's class, which has other arguments, comes next.
        nn.Module.__init__(self)
        for name, channels, factor, count in (
            ('in_channels', in_channels, 'groups', groups),
            ('in_channels', in_channels, 'deform_groups', deform_groups),
            ('out_channels', out_channels, 'groups', groups),
        ):
            if channels % count:
                raise ValueError(f'{name}: expected a multiple of {factor}={count}, got {channels}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.deform_groups = deform_groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias: nn.Parameter | None

    def extra_repr(self) -> str:
        """Describe the sizes."""
        names = ('kernel_size', 'stride', 'padding', 'dilation', 'groups', 'deform_groups')
        sizes = ', '.join(f'{name}={getattr(self, name)}' for name in names)
        return f'{self.in_channels}, {self.out_channels}, {sizes}, bias={self.bias is not None}'

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        return deform_conv2d(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )

    def _make_conv_offset(self, numbers: int) -> nn.Conv2d:
        """Make the convolution that predicts so many numbers for every group and tap, as zeros."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        conv = nn.Conv2d(
            self.in_channels,
            self.deform_groups * numbers * taps,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )
        _zero(conv)
        return conv


def _zero(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


@MODELS.register_module()
class DeformConv2d(_DeformableConvolution):
    """Deformable convolution, version 1: offsets without a mask, no bias.

    Args:
        in_channels: C, a multiple of ``groups`` and of ``deform_groups``.
        out_channels: O, a multiple of ``groups``.
        kernel_size: One number or (y, x), as the next three.
        stride: Step of the kernel.
        padding: Zeros around the input.
        dilation: Distance of the taps.
        groups: Groups of the weight.
        deform_groups: G, runs of input channels with offsets of their own.
        bias: Must be false, as in mmcv.
        im2col_step: Accepted for mmcv's configs and ignored: any batch size works.

    Raises:
        ValueError: if the channels are no multiples, or a bias is asked for.

    Source: Deformable Convolutional Networks (arXiv:1703.06211), section 2.1.
    """

    @_renamed({'deformable_groups': 'deform_groups'}, cls_name='DeformConv2d')
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        if bias:
            raise ValueError(f'bias: expected False, this version has none, got {bias}')
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
        )
        self.im2col_step = im2col_step
        self.bias = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as for a convolution before a ReLU."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity='relu')

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C, H, W) or (C, H, W); may be smaller than the kernel.
            offset: (B, 2*G*K, Ho, Wo) or without B, as (y, x) for every group and tap.

        Returns:
            (B, O, Ho, Wo), without B as ``x``.

        Raises:
            ValueError: if a shape does not fit.
        """
        if x.dim() == 3:
            return self._convolve(x[None], offset[None], None)[0]
        return self._convolve(x, offset, None)


@MODELS.register_module(name=['DeformConv2dPack', 'DCN'])
class DeformConv2dPack(DeformConv2d):
    """Version 1 that predicts its offsets with a convolution of the same geometry."""

    _version = 2  # in state dicts, as mmcv's; isda_suite.checkpoint.old_offsets knows version 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._make_conv_offset(2)

    def init_offset(self) -> None:
        """Start as an ordinary convolution."""
        _zero(self.conv_offset)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # a pack takes no offsets
        """Predict the offsets of (B, C, H, W) or (C, H, W) and convolve."""
        return super().forward(x, self.conv_offset(x))


@MODELS.register_module()
class ModulatedDeformConv2d(_DeformableConvolution):
    """Deformable convolution, version 2: with offsets and a mask.

    Args:
        in_channels: C, a multiple of ``groups`` and of ``deform_groups``.
        out_channels: O, a multiple of ``groups``.
        kernel_size: One number or (y, x), as the next three.
        stride: Step of the kernel.
        padding: Zeros around the input.
        dilation: Distance of the taps.
        groups: Groups of the weight.
        deform_groups: G, runs of input channels with offsets of their own.
        bias: Whether there is a bias; any true value, as ``'auto'`` in mmcv's configs.

    Raises:
        ValueError: if the channels are no multiples.

    Source: Deformable ConvNets v2 (arXiv:1811.11168), section 3.2.
    """

    @_renamed({'deformable_groups': 'deform_groups'}, cls_name='ModulatedDeformConv2d')
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._draw_weights()

    def init_weights(self) -> None:
        """Draw the weight again, uniform within 1/sqrt(C*kh*kw), and zero the bias."""
        self._draw_weights()

    def _draw_weights(self) -> None:
        bound = 1.0 / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C, H, W).
            offset: (B, 2*G*K, Ho, Wo), as (y, x) for every group and tap.
            mask: (B, G*K, Ho, Wo), multiplied as given.

        Returns:
            (B, O, Ho, Wo).

        Raises:
            ValueError: if a shape does not fit.
        """
        return self._convolve(x, offset, mask)


@MODELS.register_module(name=['ModulatedDeformConv2dPack', 'DCNv2'])
class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
    """Version 2 that predicts offsets and mask with a convolution of the same geometry."""

    _version = 2  # in state dicts, as mmcv's; isda_suite.checkpoint.old_offsets knows version 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv_offset = self._make_conv_offset(3)
        self.init_weights()  # again, as mmcv: the same seed gives the same start

    def init_weights(self) -> None:
        """Draw the weight again; offsets start as zero and the mask as one half."""
        super().init_weights()
        _zero(self.conv_offset)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # a pack takes no offsets
        """Predict offsets and mask of (B, C, H, W) and convolve."""
        predicted = self.conv_offset(x)
        # The first two thirds are the offsets, (y, x) interleaved; the rest is the mask.
        points = predicted.shape[1] // 3
        offset, mask = predicted.split([2 * points, points], 1)
        return self._convolve(x, offset, mask.sigmoid())
