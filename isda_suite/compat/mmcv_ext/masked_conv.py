"""Gather and scatter of a convolution that is computed at chosen positions only.

K = kernel height * width, N chosen positions. Stride and dilation are 1, the batch has one image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the neighbourhoods of the chosen positions into the columns of ``data_col``.

    Args:
        features: (1, C, H, W).
        mask_h_idx: (N,) rows of the output positions.
        mask_w_idx: (N,) columns of the output positions.
        data_col: (C * K, N); receives the result.
        kernel_h: Kernel height.
        kernel_w: Kernel width.
        pad_h: Zeros above and below.
        pad_w: Zeros left and right.
    """
    padded = F.pad(features[0], [pad_w, pad_w, pad_h, pad_h])
    down = torch.arange(kernel_h, device=features.device)[:, None, None]
    right = torch.arange(kernel_w, device=features.device)[None, :, None]
    data_col.copy_(padded[:, mask_h_idx + down, mask_w_idx + right].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, **_: int
) -> None:
    """Write the columns of ``col`` to the chosen positions of ``im``.

    Args:
        col: (channels, N).
        mask_h_idx: (N,) rows.
        mask_w_idx: (N,) columns.
        im: (1, channels, height, width); its other positions stay as they are.
        _: Sizes of ``im``, which it has itself.
    """
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
