"""Batches of noise with made-up ground truth, as the data sets of a model would give them."""

from typing import Any

import torch
from torch import nn

from isda_suite.apis.videos.clip_pipeline import clip_length
from isda_suite.compat.warning_filters import quiet_imports

from .speed_protocols import blank_sample


def noise_batch(
    model: nn.Module, batch_size: int, size_hw: tuple[int, int], num_instances: int
) -> dict[str, Any]:
    """Make what a data loader gives, for images of one size.

    Args:
        model: With ``cfg``, which says whether it is a segmentor; one of videos gets clips.
        batch_size: Images or clips.
        size_hw: Of each image.
        num_instances: Objects in each image; of a segmentor every pixel has a class.

    Returns:
        ``inputs`` (uint8 noise, (3, H, W) or (T, 3, H, W) each) and ``data_samples``.
    """
    height, width = size_hw
    frames = clip_length(model)
    shape = (3, height, width) if frames is None else (frames, 3, height, width)
    noise = torch.Generator().manual_seed(0)
    samples = [blank_sample(model, height, width, frames) for _ in range(batch_size)]
    for sample in samples:
        for image in [sample] if frames is None else sample.video_data_samples:
            _label(image, model, size_hw, num_instances)
    return {
        'inputs': [
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise) for _ in samples
        ],
        'data_samples': samples,
    }


def _label(sample: Any, model: Any, size_hw: tuple[int, int], num_instances: int) -> None:
    """Give a sample of an image the ground truth of its kind."""
    import numpy as np
    from mmengine.structures import InstanceData, PixelData

    height, width = size_hw
    if model.cfg.get('default_scope') == 'mmseg':
        rows = torch.arange(height)[:, None].expand(height, width) * 2 // height
        sample.gt_sem_seg = PixelData(data=rows[None].long())
        return
    with quiet_imports():
        from mmdet.structures.mask import BitmapMasks
    masks = np.zeros((num_instances, height, width), np.uint8)
    boxes = np.zeros((num_instances, 4), np.float32)
    numbers = np.random.RandomState(0)
    for mask, box in zip(masks, boxes, strict=True):
        # Sides from an eighth to a half of the image, somewhere in it.
        h, w = (max(int(side * numbers.uniform(0.125, 0.5)), 2) for side in size_hw)
        y, x = numbers.randint(0, height - h + 1), numbers.randint(0, width - w + 1)
        mask[y : y + h, x : x + w] = 1
        box[:] = x, y, x + w, y + h
    sample.gt_instances = InstanceData(
        bboxes=torch.from_numpy(boxes),
        labels=torch.zeros(num_instances, dtype=torch.long),
        masks=BitmapMasks(masks, height, width),
        instances_ids=torch.arange(num_instances),
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        masks=BitmapMasks(np.zeros((0, height, width), np.uint8), height, width),
        instances_ids=torch.zeros(0, dtype=torch.long),
    )
