"""RoIAlign: averages on torchvision's operator, maxima in PyTorch.

B images, C channels, N regions, (P, Q) bins of a region.
"""

import torch
from torch import Tensor

from .precision import widen
from .roi_sampling import PoolGeometry, sample_bilinear, sampling_points

_MAX, _AVERAGE = 0, 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the average or the maximum over each bin's sampling points into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (N, 5) image index and xyxy box.
        output: (N, C, P, Q); receives the result.
        argmax_y: (N, C, P, Q) for maxima; receives the rows of the points with the maxima.
        argmax_x: The same for columns.
        aligned_height: P.
        aligned_width: Q.
        spatial_scale: Size of the map over size of the image.
        sampling_ratio: Points of a bin in each direction; 0 for about one per cell.
        pool_mode: 0 maximum, 1 average.
        aligned: Pixel centres lie at half-integers.

    Source: Mask R-CNN (arXiv:1703.06870), section 3.
    """
    features, boxes = widen(input), widen(rois.to(input.dtype))
    if pool_mode == _AVERAGE:
        result = torch.ops.torchvision.roi_align(
            features, boxes, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
        output.copy_(result)
        return
    geometry = PoolGeometry(aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
    argmax_y.fill_(-2)  # a point outside of the map: no gradient
    argmax_x.fill_(-2)
    for points in sampling_points(boxes, input.shape[1], geometry):
        y, x = points.spread()
        values = sample_bilinear(features, boxes[points.regions, 0].long(), y, x)
        best, index = values.flatten(3, 4).max(dim=3)  # (n, P, Q, C)
        output[points.regions] = best.permute(0, 3, 1, 2).to(output.dtype)
        for argmax, position in ((argmax_y, y), (argmax_x, x)):
            chosen = position.flatten(3, 4).gather(3, index)
            argmax[points.regions] = chosen.permute(0, 3, 1, 2).to(argmax.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the feature maps into ``grad_input``.

    Args:
        grad_output: (N, C, P, Q).
        rois: As in the forward pass.
        argmax_y: As the forward pass left it.
        argmax_x: As the forward pass left it.
        grad_input: (B, C, H, W); receives the result.
        aligned_height: As in the forward pass.
        aligned_width: As in the forward pass.
        spatial_scale: As in the forward pass.
        sampling_ratio: As in the forward pass.
        pool_mode: As in the forward pass.
        aligned: As in the forward pass.
    """
    gradient, boxes = widen(grad_output), widen(rois.to(grad_output.dtype))
    if pool_mode == _AVERAGE:
        result = torch.ops.torchvision._roi_align_backward(
            gradient,
            boxes,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    else:
        images = boxes[:, 0].long()
        result = _maximum_backward(gradient, images, widen(argmax_y), widen(argmax_x), grad_input)
    grad_input.copy_(result)


def _maximum_backward(
    gradient: Tensor, images: Tensor, argmax_y: Tensor, argmax_x: Tensor, like: Tensor
) -> Tensor:
    """Give each maximum's gradient to the four cells around its sampling point.

    Every channel has its own point, so channels are read as images of one channel.
    """
    batch, channels, height, width = like.shape
    features = gradient.new_zeros(batch * channels, 1, height, width, requires_grad=True)
    planes = images[:, None] * channels + torch.arange(channels, device=images.device)
    y, x = argmax_y.flatten(0, 1), argmax_x.flatten(0, 1)
    with torch.enable_grad():
        values = sample_bilinear(features, planes.flatten(), y, x)[..., 0]
    (result,) = torch.autograd.grad(values, features, gradient.flatten(0, 1))
    return result.view(batch, channels, height, width)
