"""RoI pooling: the maximum over the cells of each bin.

torchvision has an operator of this name too, but rounds the regions to whole cells, which mmcv
does not do. B images, C channels, N regions, (P, Q) bins of a region.
"""

import torch
from torch import Tensor

from .precision import widen

# Elements of the largest intermediate tensor; more regions are worked on one part after the other.
_MAX_ELEMENTS = 2**24


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maximum over the cells of each bin into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (N, 5) image index and xyxy box, whose last pixel belongs to it.
        output: (N, C, P, Q); receives the maxima, 0 for bins without cells.
        argmax: (N, C, P, Q) int32; receives row * W + column of the maxima, -1 without cells.
        pooled_height: P.
        pooled_width: Q.
        spatial_scale: Size of the map over size of the image.

    Source: Fast R-CNN (arXiv:1504.08083), section 2.1.
    """
    output.zero_()
    argmax.fill_(-1)
    if len(rois) == 0:
        return
    channels, height, width = input.shape[1:]
    x1, y1, x2, y2 = widen(rois[:, 1:]).unbind(1)
    rows = _bins(y1 * spatial_scale, (y2 + 1) * spatial_scale, pooled_height, height)
    columns = _bins(x1 * spatial_scale, (x2 + 1) * spatial_scale, pooled_width, width)
    window = (rows[1] - rows[0]).max().clamp(min=1), (columns[1] - columns[0]).max().clamp(min=1)
    elements = channels * pooled_height * pooled_width * int(window[0]) * int(window[1])
    everything = torch.arange(len(rois), device=rois.device)
    size = max(1, _MAX_ELEMENTS // elements)
    for part in everything.split(size):  # type: ignore[no-untyped-call]
        y, y_inside = _cells(rows[0][part], rows[1][part], int(window[0]))
        x, x_inside = _cells(columns[0][part], columns[1][part], int(window[1]))
        cell = y[:, :, None, :, None] * width + x[:, None, :, None, :]  # (n, P, Q, I, J)
        inside = y_inside[:, :, None, :, None] & x_inside[:, None, :, None, :]
        cell, inside = cell.flatten(3), inside.flatten(3)
        images = rois[part, 0].long()[:, None, None, None]
        values = input.flatten(2).transpose(1, 2)[images, cell.clamp(max=height * width - 1)]
        values = values.masked_fill(~inside[..., None], -torch.inf)  # (n, P, Q, I * J, C)
        best, index = values.max(dim=3)
        filled = inside.any(3)[:, None]
        chosen = cell.gather(3, index).permute(0, 3, 1, 2).to(argmax.dtype)
        output[part] = torch.where(filled, best.permute(0, 3, 1, 2), 0.0)
        argmax[part] = torch.where(filled, chosen, -1)


def roi_pool_backward(
    grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, **_: float
) -> None:
    """Add each maximum's gradient to its cell of ``grad_input``.

    Args:
        grad_output: (N, C, P, Q).
        rois: As in the forward pass.
        argmax: As the forward pass left it.
        grad_input: (B, C, H, W); is added to.
        _: The geometry, which ``argmax`` holds already.
    """
    batch, channels, height, width = grad_input.shape
    planes = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    cells = planes[:, :, None, None] * (height * width) + argmax.clamp(min=0)
    gradient = torch.where(argmax >= 0, grad_output, 0.0)
    flat = gradient.new_zeros(batch * channels * height * width)
    flat.index_add_(0, cells.flatten(), gradient.flatten())
    grad_input.add_(flat.view_as(grad_input))


def _bins(start: Tensor, end: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """(N, bins) first cell and cell after the last one; equal for regions without area."""
    size = (end - start) / bins
    bounds = torch.arange(bins + 1, device=start.device, dtype=start.dtype) * size[:, None]
    bounds = bounds + start[:, None]
    first = bounds[:, :-1].floor().clamp(0, cells).long()
    after = bounds[:, 1:].ceil().clamp(0, cells).long()
    return first, torch.where(size[:, None] > 0, after, first)


def _cells(first: Tensor, after: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(n, bins, count) cells from the first one on, and whether they belong to the bin."""
    cells = first[..., None] + torch.arange(count, device=first.device)
    return cells, cells < after[..., None]
