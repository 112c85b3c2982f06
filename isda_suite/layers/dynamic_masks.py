"""Masks from dynamic 1x1 kernels and an image-wide mask feature map."""

import torch
from torch import Tensor


def decode_mask_logits(kernels: Tensor, mask_feature: Tensor) -> Tensor:
    r"""Compute mask logits of the queries of one image.

    .. math:: m_{qyx} = \sum_c k_{qc} \, F_{cyx}

    Computed in float32 also under automatic mixed precision: the sums over 256 channels of
    unbounded kernels overflow 16 bits.

    Args:
        kernels: (Q, C) dynamic kernels; Q may be 0.
        mask_feature: (C, H, W) mask feature map of the image.

    Returns:
        (Q, H, W) float32 logits (float64 where the inputs are).
    """
    dtype = torch.promote_types(kernels.dtype, torch.float32)
    with torch.autocast(device_type=mask_feature.device.type, enabled=False):
        logits = kernels.to(dtype) @ mask_feature.to(dtype).flatten(1)
    return logits.view(-1, *mask_feature.shape[1:])
