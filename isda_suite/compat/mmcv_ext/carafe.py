r"""CARAFE: upsampling whose kernels are predicted for every output position.

:math:`out_{n,c,y,x} = \sum_{i,j} m_{n,g(c),ij,y,x} \, in_{n,c,\lfloor y/s \rfloor + i,
\lfloor x/s \rfloor + j}` with i, j in -r..r and zeros outside of the map. B images, C channels
in G groups, k kernel size, s scale factor.

Source: CARAFE (arXiv:1905.02188), section 3.2.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled map into ``output``.

    Args:
        features: (B, C, H, W).
        masks: (B, G * k * k, s * H, s * W) kernels.
        rfeatures: Like ``features``; receives a copy, which is what mmcv keeps for the backward
            pass.
        routput: Scratch, not used.
        rmasks: Scratch, not used.
        output: (B, C, s * H, s * W); receives the result.
        kernel_size: k, odd.
        group_size: G.
        scale_factor: s.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(
        features,
        masks,
        output,
        kernel_size=kernel_size,
        group_size=group_size,
        scale_factor=scale_factor,
    )


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of map and kernels.

    Args:
        grad_output: (B, C, s * H, s * W).
        rfeatures: The map, as the forward pass left it.
        masks: As in the forward pass.
        rgrad_output: Scratch, not used.
        rgrad_input_hs: Scratch, not used.
        rgrad_input: Scratch, not used.
        rgrad_masks: Scratch, not used.
        grad_input: (B, C, H, W); receives the gradient of the map.
        grad_masks: Like ``masks``; receives the gradient of the kernels.
        kernel_size: As in the forward pass.
        group_size: As in the forward pass.
        scale_factor: As in the forward pass.
    """
    carafe_naive_backward(
        grad_output,
        rfeatures,
        masks,
        grad_input,
        grad_masks,
        kernel_size=kernel_size,
        group_size=group_size,
        scale_factor=scale_factor,
    )


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled map into ``output``; arguments as for ``carafe_forward``."""
    blocks = _blocks(output, group_size, scale_factor)
    blocks.zero_()
    kernels = _kernels(masks, group_size, scale_factor)
    shifted = _shifted(features, group_size, kernel_size)
    for index, neighbours in enumerate(shifted):
        blocks.addcmul_(neighbours, kernels[:, :, index, None])


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of map and kernels; arguments as for ``carafe_backward``."""
    gradient = _blocks(grad_output, group_size, scale_factor)
    kernels = _kernels(masks, group_size, scale_factor)
    grad_kernels = _kernels(grad_masks, group_size, scale_factor)
    radius = kernel_size // 2
    height, width = features.shape[-2:]
    padded = F.pad(features.new_zeros(features.shape), [radius] * 4)
    grads = _shifted_views(padded, (height, width), group_size, kernel_size)
    shifted = _shifted(features, group_size, kernel_size)
    for index, (neighbours, grad) in enumerate(zip(shifted, grads, strict=True)):
        grad_kernels[:, :, index] = (gradient * neighbours).sum(2)
        grad += (gradient * kernels[:, :, index, None]).sum((4, 6), keepdim=True)
    grad_input.copy_(padded[..., radius : radius + height, radius : radius + width])


def _blocks(output: Tensor, groups: int, scale: int) -> Tensor:
    """View (B, C, s * H, s * W) as (B, G, C / G, H, s, W, s)."""
    batch, channels, height, width = output.shape
    shape = (batch, groups, channels // groups, height // scale, scale, width // scale, scale)
    return output.view(shape)


def _kernels(masks: Tensor, groups: int, scale: int) -> Tensor:
    """View (B, G * k * k, s * H, s * W) as (B, G, k * k, H, s, W, s)."""
    return _blocks(masks, groups, scale)


def _shifted(features: Tensor, groups: int, kernel_size: int) -> Iterator[Tensor]:
    """Yield the map as seen from each kernel position, (B, G, C / G, H, 1, W, 1)."""
    padded = F.pad(features, [kernel_size // 2] * 4)
    return _shifted_views(padded, features.shape[-2:], groups, kernel_size)


def _shifted_views(
    padded: Tensor, size_hw: tuple[int, ...], groups: int, kernel_size: int
) -> Iterator[Tensor]:
    batch, channels = padded.shape[:2]
    height, width = size_hw
    grouped = padded.view(batch, groups, channels // groups, *padded.shape[2:])
    for row in range(kernel_size):
        for column in range(kernel_size):
            window = grouped[..., row : row + height, column : column + width]
            yield window[:, :, :, :, None, :, None]
