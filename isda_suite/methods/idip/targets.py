"""The targets of a training image, checked."""

from typing import Any

import numpy as np
import torch
from mmdet.structures.mask import BaseInstanceMasks
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError


def checked_targets(gt: InstanceData, metainfo: dict[str, Any], device: Any) -> InstanceData:
    """Take the targets of an image in the form the losses need, or say what is wrong with them.

    Args:
        gt: ``labels``, ``bboxes`` and ``masks`` (bitmap or polygon masks, or a (G, h, w) array or
            tensor); an image without objects needs none of them.
        metainfo: ``img_shape``, and ``img_path`` or ``img_id`` for the message.
        device: Where the targets are needed.

    Returns:
        ``labels`` (G,), ``bboxes`` (G, 4) float32 xyxy and ``masks`` (G, h, w).

    Raises:
        ModelConfigError: if there are not as many boxes as masks and labels, or a box has no side
            or lies outside the image.
    """
    found = {name: gt.get(name) for name in ('labels', 'bboxes', 'masks')}
    counts = {name: 0 if value is None else len(value) for name, value in found.items()}
    where = f'image {metainfo.get("img_path", metainfo.get("img_id", "without a name"))}'
    if len(set(counts.values())) > 1:
        listed = ', '.join(f'{count} {name}' for name, count in counts.items())
        raise ModelConfigError(
            f'{where}: every object needs a label, a box and a mask, got {listed}; load all of '
            "them: dict(type='LoadAnnotations', with_bbox=True, with_mask=True)"
        )
    height, width = metainfo['img_shape'][:2]
    if counts['bboxes'] == 0:
        return InstanceData(
            labels=torch.zeros(0, dtype=torch.long, device=device),
            bboxes=torch.zeros(0, 4, device=device),
            masks=torch.zeros(0, height, width, dtype=torch.uint8, device=device),
        )
    boxes = getattr(found['bboxes'], 'tensor', found['bboxes'])
    boxes = torch.as_tensor(boxes, dtype=torch.float32).to(device)
    _require_boxes_inside(boxes, (height, width), where)
    masks = found['masks']
    if isinstance(masks, BaseInstanceMasks):
        masks = masks.to_ndarray()
    if isinstance(masks, np.ndarray):
        masks = torch.from_numpy(np.ascontiguousarray(masks))
    return InstanceData(
        labels=torch.as_tensor(found['labels']).to(device), bboxes=boxes, masks=masks.to(device)
    )


def _require_boxes_inside(boxes: Tensor, size_hw: tuple[int, int], where: str) -> None:
    height, width = size_hw
    visible = torch.minimum(boxes[:, 2:], boxes.new_tensor([width, height]))
    visible = visible - boxes[:, :2].clamp(min=0)
    good = (boxes[:, 2:] > boxes[:, :2]).all(1) & (visible > 0).all(1) & boxes.isfinite().all(1)
    if bool(good.all()):
        return
    bad = int((~good).nonzero()[0])
    shown = [round(value, 2) for value in boxes[bad].tolist()]
    raise ModelConfigError(
        f'{where}: box {bad} (x1, y1, x2, y2) = {shown} has no side or lies outside the image of '
        f'{width} x {height}; the pipeline has to drop such an object'
    )
