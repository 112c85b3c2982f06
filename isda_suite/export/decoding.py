"""From the outputs of an exported model to masks of the picture, in numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Size = tuple[int, int]


@dataclass
class Detections:
    """Instances of a picture, best first.

    Attributes:
        masks: (N, H, W) bool.
        boxes: (N, 4) float32 xyxy in pixels.
        labels: (N,) int64.
        scores: (N,) float32.
    """

    masks: Array
    boxes: Array
    labels: Array
    scores: Array


def detections_of(
    outputs: Mapping[str, Array], description: Mapping[str, Any], size_hw: Size, original_hw: Size
) -> Detections:
    """Bring detections to the size of the picture.

    Args:
        outputs: ``scores`` (N,), ``labels`` (N,), ``masks`` and maybe ``boxes`` of one picture.
        description: Header of the file: ``results`` says what the masks are.
        size_hw: Of the network's input without padding.
        original_hw: Of the picture.
    """
    keep = outputs['scores'] >= description.get('score_thr', 0.0)
    scores, labels, masks = (outputs[name][keep] for name in ('scores', 'labels', 'masks'))
    if description['results'] == 'image_masks':
        found = _from_maps(masks, description, size_hw, original_hw)
        return Detections(found, _boxes_around(found), labels, scores)
    factor = np.array([original_hw[1] / size_hw[1], original_hw[0] / size_hw[0]] * 2, np.float32)
    boxes = outputs['boxes'][keep] * factor
    clipped = np.clip(boxes, 0, np.array(original_hw[::-1] * 2, np.float32))
    if description['clip_boxes'] == 'before':
        inside = (clipped[:, 2:] > clipped[:, :2]).all(1)
        boxes, masks, scores, labels = (
            clipped[inside],
            masks[inside],
            scores[inside],
            labels[inside],
        )
    found = np.zeros((len(masks), *original_hw), bool)
    for row, mask, box in zip(found, masks, boxes, strict=True):
        _paste(row, mask.astype(np.float32), box, description['mask_thr'])
    if description['clip_boxes'] == 'after':
        boxes = clipped
    return Detections(found, boxes, labels, scores)


def class_map_of(outputs: Mapping[str, Array], size_hw: Size, original_hw: Size) -> Array:
    """Return the class of every pixel of the picture; resized logits are classified again."""
    if size_hw == original_hw:
        return outputs['class_map']
    logits = np.stack([_resize(_resize(one, size_hw), original_hw) for one in outputs['logits']])
    return logits.argmax(0).astype(outputs['class_map'].dtype)


def _from_maps(
    masks: Array, description: Mapping[str, Any], size_hw: Size, original_hw: Size
) -> Array:
    """Enlarge probabilities (N, h, w), cut the padding, resize, and threshold."""
    found = np.zeros((len(masks), *original_hw), bool)
    stride = description['mask_stride']
    for row, mask in zip(found, masks, strict=True):
        full = _resize(mask, (mask.shape[0] * stride, mask.shape[1] * stride))
        row[:] = _resize(full[: size_hw[0], : size_hw[1]], original_hw) > description['mask_thr']
    return found


def _resize(values: Array, size_hw: Size) -> Array:
    """Resize (h, w) float32 bilinearly, as PyTorch with ``align_corners=False``."""
    if values.shape == size_hw:
        return values
    contiguous = np.ascontiguousarray(values, np.float32)
    return np.asarray(cv2.resize(contiguous, size_hw[::-1], interpolation=cv2.INTER_LINEAR))


def _paste(row: Array, mask: Array, box: Array, mask_thr: float) -> None:
    """Write where a mask (h, w), spread over its box, reaches the threshold.

    Outside of its cells the mask goes down to 0 within half a cell, as in mmdet.
    """
    height, width = row.shape
    x0, y0 = (max(int(np.floor(v)) - 1, 0) for v in box[:2])
    x1, y1 = (min(int(np.ceil(v)) + 1, n) for v, n in zip(box[2:], (width, height), strict=True))
    if x1 <= x0 or y1 <= y0 or box[2] <= box[0] or box[3] <= box[1]:
        return
    h, w = mask.shape
    x = (np.arange(x0, x1, dtype=np.float32) + 0.5 - box[0]) / (box[2] - box[0]) * w - 0.5
    y = (np.arange(y0, y1, dtype=np.float32) + 0.5 - box[1]) / (box[3] - box[1]) * h - 0.5
    columns, rows = _weights(x, w), _weights(y, h)
    row[y0:y1, x0:x1] = rows @ mask @ columns.T >= mask_thr


def _weights(at: Array, cells: int) -> Array:
    """Make the matrix (places, cells) of linear interpolation, with zeros outside."""
    return np.clip(1 - np.abs(at[:, None] - np.arange(cells, dtype=np.float32)), 0, 1)


def _boxes_around(masks: Array) -> Array:
    """Return the boxes (N, 4) xyxy around masks (N, H, W); zeros for an empty one."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if len(columns):
            box[:] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return boxes
