"""Ground truth of a clip: what every instance is, and where, in every frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError


@dataclass
class ClipTargets:
    """The instances of one clip.

    Axes: G instances, T frames, (H, W) = size of the padded network input.

    Attributes:
        labels: (G, T) int64, class label + 1; 0 where the instance is absent.
        boxes: (G, T, 4) cxcywh divided by the size of the frame without padding. Zero where the
            instance is absent, or what the transforms of the data made of that zero box.
        valid: (G, T) bool, whether the instance is in the frame.
        masks: (G, T, H, W) uint8 or bool, zero where absent; ``None`` for boxes alone. They may
            lie on the CPU beside boxes on a GPU: only the rows a loss needs are moved.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        """G."""
        return len(self.labels)

    @property
    def num_frames(self) -> int:
        """T."""
        return self.labels.shape[1]


def _rows_of_frame(gt: Any, rows: dict[int, int], frame: int) -> list[int]:
    """Give the row of every instance of a frame; instances not seen before get the next one."""
    for name in ('instances_ids', 'labels', 'bboxes'):
        if name not in gt:
            raise ModelConfigError(
                f'gt_instances of frame {frame}: expected the field {name}, found '
                f'{sorted(gt.keys())}; the training pipeline has to load boxes, labels and '
                f'instance ids'
            )
    ids = [int(i) for i in gt.instances_ids]
    if len(set(ids)) != len(ids):
        raise ModelConfigError(
            f'gt_instances of frame {frame}: expected every instance id once, found {sorted(ids)}'
        )
    return [rows.setdefault(i, len(rows)) for i in ids]


def _normalised_boxes(gt: Any, img_shape: tuple[int, int]) -> Tensor:
    """Turn (n, 4) xyxy pixels into cxcywh relative to the frame without padding."""
    boxes = torch.as_tensor(getattr(gt.bboxes, 'tensor', gt.bboxes)).float()
    x1, y1, x2, y2 = boxes.unbind(-1)
    centred = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)
    h, w = img_shape
    return centred / centred.new_tensor([w, h, w, h])


def _joined_masks(frames: list[Any], rows_of: list[list[int]], num_rows: int) -> Tensor | None:
    """Stack the masks of all frames to (G, T, H, W) uint8; absent rows stay zero."""
    if any('masks' not in frame.gt_instances for frame in frames):
        return None
    sizes = {(frame.gt_instances.masks.height, frame.gt_instances.masks.width) for frame in frames}
    if len(sizes) != 1:
        raise ModelConfigError(
            f'gt masks: expected one size in all frames of a clip, found {sorted(sizes)}; set '
            f'pad_mask=True in the data_preprocessor'
        )
    joined = np.zeros((num_rows, len(frames), *sizes.pop()), np.uint8)
    for t, (frame, rows) in enumerate(zip(frames, rows_of, strict=True)):
        if rows:
            joined[rows, t] = frame.gt_instances.masks.to_ndarray()
    return torch.from_numpy(joined)


def clip_targets(track_data_sample: Any) -> ClipTargets:
    """Join the ground truth of the frames of a clip to rows of instances.

    An instance is what shares an ``instances_ids`` value; rows are in the order of first
    appearance. It is absent from a frame where its id is missing (zero box), or where the optional
    bool field ``valid`` of the frame says so (its box is kept as the transforms left it).
    Instances that mmdet's packing has set apart as ignored are not targets.

    Args:
        track_data_sample: T frames with ``gt_instances``: ``bboxes`` (n, 4) xyxy pixels of the
            resized frame, ``labels`` (n,) from 0, ``instances_ids`` (n,), and optionally ``masks``
            (bitmaps of the padded input size) and ``valid`` (n,) bool; metainfo ``img_shape``.

    Returns:
        The targets, on the device of the boxes (masks on the CPU); G may be 0.

    Raises:
        ModelConfigError: for a missing field, an id twice in a frame, or masks of several sizes.
    """
    frames = track_data_sample.video_data_samples
    rows: dict[int, int] = {}
    rows_of = [_rows_of_frame(frame.gt_instances, rows, t) for t, frame in enumerate(frames)]
    boxes = [_normalised_boxes(f.gt_instances, tuple(f.img_shape[:2])) for f in frames]
    device = boxes[0].device
    labels = torch.zeros((len(rows), len(frames)), dtype=torch.long, device=device)
    all_boxes = boxes[0].new_zeros((len(rows), len(frames), 4))
    valid = torch.zeros((len(rows), len(frames)), dtype=torch.bool, device=device)
    for t, (frame, at) in enumerate(zip(frames, rows_of, strict=True)):
        if not at:
            continue
        gt = frame.gt_instances
        present = torch.as_tensor(gt.valid, device=device).bool() if 'valid' in gt else None
        valid[at, t] = True if present is None else present
        all_boxes[at, t] = boxes[t]
        labels[at, t] = torch.as_tensor(gt.labels, device=device).long() + 1
    labels[~valid] = 0
    return ClipTargets(labels, all_boxes, valid, _joined_masks(frames, rows_of, len(rows)))
