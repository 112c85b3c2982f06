"""Data samples and objects for tests of detectors."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData


def samples_of(batch_hw, img_hw, gts=None, ori_hw=None):
    """Make data samples of images padded to one size."""
    made = []
    for i, size in enumerate(img_hw):
        ori_shape = tuple((ori_hw or img_hw)[i])
        meta = dict(
            batch_input_shape=tuple(batch_hw), img_shape=tuple(size), ori_shape=ori_shape,
            scale_factor=(size[1] / ori_shape[1], size[0] / ori_shape[0]),
        )  # fmt: skip
        made.append(DetDataSample(metainfo=meta))
        if gts is not None:
            made[-1].gt_instances = gts[i]
    return made


def boxes_as_objects(size_hw, boxes, num_classes, labels=None):
    """Make objects that fill their boxes (x1, y1, x2, y2), for an image of that size."""
    masks = np.zeros((len(boxes), *size_hw), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.arange(len(boxes)) % num_classes if labels is None else torch.tensor(labels)
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels.long(),
        masks=BitmapMasks(masks, *size_hw),
    )


def image_of_two_boxes():
    """Make an image (1, 3, 64, 64) with two bright boxes, and its objects of classes 0 and 1."""
    image = torch.from_numpy(np.random.RandomState(0).rand(1, 3, 64, 64)).float()
    image[:, 0, 8:30, 8:30] += 2
    image[:, 1, 36:60, 34:60] += 2
    return image, boxes_as_objects((64, 64), [(8, 8, 30, 30), (34, 36, 60, 60)], 2)


def losses_of_training(model, image, gt, steps, lr):
    """Train on one image with AdamW; return the sum of the losses before every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    size_hw, totals = tuple(image.shape[-2:]), []
    for _ in range(steps):
        losses = model.loss(image, samples_of(size_hw, [size_hw], [gt[:]]))
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    return totals


def silent_parameters(model, losses):
    """Return the names of the trained parameters that the losses give no gradient."""
    model.zero_grad()
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
