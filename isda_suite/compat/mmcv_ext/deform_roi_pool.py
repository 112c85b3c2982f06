"""Deformable RoI pooling: averages over bins that are shifted by learned offsets.

B images, C channels, N regions, (P, Q) bins of a region.
"""

import torch
from torch import Tensor

from .precision import widen
from .roi_sampling import PoolGeometry, SamplingPoints, sample_bilinear, sampling_points


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the average over each shifted bin's sampling points into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (N, 5) image index and xyxy box.
        offset: (N, 2, P, Q) shifts in x and y, in parts of the region's size; may be empty.
        output: (N, C, P, Q); receives the result.
        pooled_height: P.
        pooled_width: Q.
        spatial_scale: Size of the map over size of the image.
        sampling_ratio: Points of a bin in each direction; 0 for about one per cell.
        gamma: Factor of the offsets.

    Source: Deformable Convolutional Networks (arXiv:1703.06211), section 2.2.
    """
    features, boxes, shifts = widen(input), widen(rois), widen(offset)
    geometry = PoolGeometry(pooled_height, pooled_width, spatial_scale, sampling_ratio)
    output.zero_()
    for points in sampling_points(boxes, input.shape[1], geometry):
        values = _pool(features, boxes, shifts, points, gamma)
        output[points.regions] = values.to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Add the gradients of the feature maps and the offsets to the tensors given for them.

    Args:
        grad_output: (N, C, P, Q).
        input: As in the forward pass.
        rois: As in the forward pass.
        offset: As in the forward pass.
        grad_input: Like ``input``; is added to.
        grad_offset: Like ``offset``; is added to.
        pooled_height: As in the forward pass.
        pooled_width: As in the forward pass.
        spatial_scale: As in the forward pass.
        sampling_ratio: As in the forward pass.
        gamma: As in the forward pass.
    """
    features = widen(input).detach().requires_grad_()
    shifts = widen(offset).detach().requires_grad_()
    inputs = [features, shifts] if offset.numel() else [features]
    boxes, gradient = widen(rois), widen(grad_output)
    geometry = PoolGeometry(pooled_height, pooled_width, spatial_scale, sampling_ratio)
    for points in sampling_points(boxes, input.shape[1], geometry):
        with torch.enable_grad():
            values = _pool(features, boxes, shifts, points, gamma)
        grads = torch.autograd.grad(values, inputs, gradient[points.regions])
        for target, part in zip((grad_input, grad_offset), grads, strict=False):
            target.add_(part.to(target.dtype))


def _pool(
    features: Tensor, rois: Tensor, offset: Tensor, points: SamplingPoints, gamma: float
) -> Tensor:
    """(n, C, P, Q) averages over the points of some of the regions."""
    y, x = points.spread()
    if offset.numel():
        shift = gamma * offset[points.regions, :, :, :, None, None]
        x = x + shift[:, 0] * points.width.view(-1, 1, 1, 1, 1)
        y = y + shift[:, 1] * points.height.view(-1, 1, 1, 1, 1)
    images = rois[points.regions, 0].long()
    return sample_bilinear(features, images, y, x).mean((3, 4)).permute(0, 3, 1, 2)
