"""The Laplacian pyramid: what a picture loses when it is reduced by a Gaussian."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of

ODD_SIDES = ('crop', 'nearest')


class LaplacianPyramid(nn.Module):
    r"""Split images into residuals of falling resolution and a low-pass rest.

    .. math:: D_l = (G * I_l)_{::2, ::2}, \quad H_l = I_l - U(D_l), \quad I_{l+1} = D_l

    G is the 5 x 5 binomial kernel, U inserts zeros and filters with 4 G. Two equal forms are
    replaced by cheaper ones: filtering and then dropping every other pixel is a convolution of
    stride 2 (bit for bit), and U is one three-tap and one two-tap mean per axis (to 1e-7), so that
    no map of inserted zeros is made.

    Computed in float32 also under automatic mixed precision: residuals are small differences of
    large values.

    Args:
        num_levels: Number of residuals.
        odd_sides: What happens to the row that U has too many where a side is odd: ``'crop'``, or
            ``'nearest'`` resizing, as published. The two differ only for sides above 3227, where
            rounding of the resizing shifts a few rows.

    Raises:
        ModelConfigError: if ``odd_sides`` is unknown.

    Source: ISDNet (CVPR 2022), section 3; Burt and Adelson, 1983.
    """

    kernel: Tensor

    def __init__(self, num_levels: int = 2, odd_sides: str = 'crop') -> None:
        super().__init__()
        require_one_of('odd_sides', odd_sides, ODD_SIDES)
        self.num_levels = num_levels
        self.odd_sides = odd_sides
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer('kernel', torch.outer(taps, taps), persistent=False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Split images.

        Args:
            images: (B, C, H, W); H and W are at least 2 ** num_levels + 1.

        Returns:
            The residuals, (B, C, ceil(H / 2^l), ceil(W / 2^l)) for l = 0, 1, …, and the rest
            (B, C, ceil(H / 2^L), ceil(W / 2^L)), in float32 at least.
        """
        residuals = []
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            for _ in range(self.num_levels):
                reduced = self.reduce(images)
                residuals.append(images - self.expand(reduced, images.shape[-2:]))
                images = reduced
        return residuals, images

    def reduce(self, images: Tensor) -> Tensor:
        """Filter and halve: (B, C, H, W) to (B, C, ceil(H / 2), ceil(W / 2))."""
        channels = images.shape[1]
        kernel = self.kernel.to(images.dtype).expand(channels, 1, -1, -1)
        padded = F.pad(images, (2, 2, 2, 2), mode='reflect')
        return F.conv2d(padded, kernel, stride=2, groups=channels)

    def expand(self, images: Tensor, size_hw: torch.Size) -> Tensor:
        """Double and filter: (B, C, h, w) to (B, C, H, W), H of 2 h - 1 and 2 h, W likewise."""
        for axis in (-2, -1):
            images = _doubled(images, axis)
        if images.shape[-2:] == size_hw:
            return images
        if self.odd_sides == 'nearest':  # Compat: odd_sides='crop'
            return F.interpolate(images, size=size_hw, mode='nearest')
        return images[..., : size_hw[0], : size_hw[1]]


def _doubled(images: Tensor, axis: int) -> Tensor:
    """Double an axis: even places are (1, 6, 1) / 8 of their neighbours, odd ones means of two.

    The border follows from reflecting the map with zeros: its left neighbour is the second value,
    its right one the last.
    """
    size = images.shape[axis]
    bordered = torch.cat(
        [images.narrow(axis, 1, 1), images, images.narrow(axis, size - 1, 1)], axis
    )
    left, right = bordered.narrow(axis, 0, size), bordered.narrow(axis, 2, size)
    even = torch.add(left, images, alpha=6).add_(right).div_(8)
    odd = (images + right).div_(2)
    return torch.stack([even, odd], dim=images.dim() + axis + 1).flatten(axis - 1, axis)
