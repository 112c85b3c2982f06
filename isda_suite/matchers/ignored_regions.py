"""Regions that are neither targets nor background: crowds, objects without a mask."""

import torch
from mmdet.structures.mask import PolygonMasks
from mmengine.structures import InstanceData
from torch import Tensor


def ignored_region(instances: InstanceData | None, size_hw: tuple[int, int]) -> Tensor | None:
    """Paint the ignored instances of an image: their masks, or their boxes where masks are empty.

    Args:
        instances: ``masks`` (bitmap or polygon masks) and ``bboxes`` (n, 4) xyxy in pixels, as
            mmdet's ``ignored_instances``; ``None`` for none.
        size_hw: Size of the padded input.

    Returns:
        (h, w) uint8 of 0 and 1; ``None`` if nothing is ignored.
    """
    if instances is None or len(instances) == 0:
        return None
    masks = instances.masks
    if isinstance(masks, PolygonMasks):
        masks = masks.to_bitmap()
    region = torch.zeros(size_hw, dtype=torch.uint8)
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    for mask, box in zip(masks.masks, boxes.tolist(), strict=True):
        painted = torch.as_tensor(mask)
        height, width = painted.shape
        if painted.any():
            region[:height, :width] |= painted
        else:
            x1, y1, x2, y2 = (max(round(value), 0) for value in box)
            region[y1:y2, x1:x2] = 1
    return region


def lies_in_region(masks: Tensor, region: Tensor, iof_thr: float) -> Tensor:
    r"""Say which predictions lie in an ignored region.

    .. math:: \mathrm{IoF}_q = \frac{\sum_{yx} m_{qyx} r_{yx}}{\sum_{yx} m_{qyx}}

    Args:
        masks: (Q, H, W) probabilities.
        region: (H, W) values in [0, 1].
        iof_thr: Share of a mask that has to lie inside, in [0, 1).

    Returns:
        (Q,) bool.
    """
    flat = masks.flatten(1)
    inside = flat @ region.flatten().to(flat)
    return inside > iof_thr * flat.sum(1)
