"""From mask features of an instance in all frames to its masks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mask_head import GroupNorm, channels_of

_DILATION = 2


class DilatedConv3d(nn.Conv3d):
    """A convolution of 3x3x3 with dilation and padding 2, as sums of convolutions of frames.

    PyTorch has no fast CPU kernel for dilated 3-D convolutions. The three taps in time are stacked
    as output channels of one dilated 2-D convolution, for which there is one; their results are
    added two frames apart. Nothing but the order of sums differs; measured at 24 to 12 channels of
    12 x 60 x 106, one thread: forward 9 times, backward 6 times faster.

    Axes: N slots, C input and O output channels, T frames.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=_DILATION, dilation=_DILATION)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, T, H, W) to (N, O, T, H, W); fast where frames lie before channels."""
        n, _, t, h, w = x.shape
        frames = x.transpose(1, 2).flatten(0, 1)
        o, c = self.weight.shape[:2]
        taps = self.weight.permute(2, 0, 1, 3, 4).reshape(3 * o, c, 3, 3)
        bias = None if self.bias is None else F.pad(self.bias, (o, o))
        sums = F.conv2d(frames, taps, bias, padding=_DILATION, dilation=_DILATION)
        before, same, after = sums.view(n, t, 3, o, h, w).unbind(2)
        if t > _DILATION:
            none = (0,) * 6
            later = F.pad(before[:, :-_DILATION], (*none, _DILATION, 0))
            earlier = F.pad(after[:, _DILATION:], (*none, 0, _DILATION))
            same = same + later + earlier
        return same.transpose(1, 2)


class ClipMaskHead(nn.Sequential):
    """From mask features of an instance in all frames to its mask logits, by 3-D convolutions.

    Three times a convolution of 3x3x3 with dilation 2 in time and space, GN, ReLU; then one to a
    single channel. A mask thus sees 6 frames to either side.

    Args:
        embed_dims: C, a multiple of 32; the input has C / 16 channels, inside there are C / 32.
        num_groups: Groups of every normalisation.

    Raises:
        ModelConfigError: if C / 32 is no whole number or no multiple of the groups.
    """

    def __init__(self, embed_dims: int, num_groups: int = 4) -> None:
        inside = channels_of(embed_dims, 32, num_groups)
        layers: list[nn.Module] = []
        for channels in (2 * inside, inside, inside):
            layers.append(DilatedConv3d(channels, inside))
            layers += [GroupNorm(num_groups, inside), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Conv3d(inside, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, C / 16, h4, w4) to logits (N, T, h4, w4), float32 at least."""
        x = x.transpose(1, 2)
        for layer in self:
            x = layer(x)
        logits = x[:, 0]
        return logits if logits.dtype == torch.float64 else logits.float()
