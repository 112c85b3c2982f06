"""Bring masks of a network to the size of the image, some at a time."""

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from torch import Tensor

# Float32 values that one chunk of resized masks may take (256 MB).
CHUNK_VALUES = 64 * 2**20


def paste_masks(
    masks: Tensor,
    img_shape: tuple[int, int],
    out_shape: tuple[int, int],
    mask_thr: float,
    stride: int = 4,
) -> Tensor:
    """Bring mask probabilities to the size of the original image, some at a time.

    Up-sample by the stride, crop the padding away, resize, then threshold.

    Args:
        masks: (N, H, W) probabilities at stride 4; N may be 0.
        img_shape: (h, w) of the network's input without padding.
        out_shape: (h, w) of the result.
        mask_thr: A pixel is foreground above it, 0..1.
        stride: Input pixels per cell.

    Returns:
        (N, h, w) bool, on the device of ``masks``.
    """
    n, h, w = masks.shape
    out = masks.new_empty((n, *out_shape), dtype=torch.bool)
    per_mask = max(stride * stride * h * w, out_shape[0] * out_shape[1])
    step = max(1, CHUNK_VALUES // max(per_mask, 1))
    for start in range(0, n, step):
        part = masks[start : start + step, None]
        part = F.interpolate(part, scale_factor=stride, mode='bilinear', align_corners=False)
        part = part[..., : img_shape[0], : img_shape[1]]
        if tuple(part.shape[-2:]) != tuple(out_shape):
            part = F.interpolate(part, size=out_shape, mode='bilinear', align_corners=False)
        out[start : start + step] = part[:, 0] > mask_thr
    return out


def paste_into_boxes(
    masks: Tensor, boxes: Tensor, out_shape: tuple[int, int], mask_thr: float
) -> Tensor:
    """Paste masks that are known inside boxes only; outside they are background.

    Args:
        masks: (N, h, w) values of each mask in its box; N may be 0.
        boxes: (N, 4) xyxy in pixels of the result; what leaves the image is cut off.
        out_shape: (H, W) of the result.
        mask_thr: A pixel is foreground from here on.

    Returns:
        (N, H, W) bool, on the device of ``masks``; nothing for a box without an area
        or outside the image.
    """
    height, width = out_shape
    out = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    size = boxes.new_tensor([width, height])
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
    inside = (boxes[:, :2] < size).all(1) & (boxes[:, 2:] > 0).all(1)
    wanted = (has_area & inside).nonzero()[:, 0]
    on_cpu = masks.device.type == 'cpu'
    # Single masks on the CPU, each only around its box; a GPU works on whole images at once.
    step = 1 if on_cpu else max(1, CHUNK_VALUES // max(height * width, 1))
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        pasted, place = _do_paste_mask(
            masks[part, None].float(), boxes[part], height, width, skip_empty=on_cpu
        )
        if on_cpu:
            out[int(part)][place] = pasted[0] >= mask_thr
        else:
            out[part] = pasted >= mask_thr
    return out
