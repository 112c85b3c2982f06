"""From the outputs of an exported model to masks of the picture, in numpy."""

from collections.abc import Iterator, Mapping
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
    rows = {name: value[keep] for name, value in outputs.items()}
    factor = np.array([original_hw[1] / size_hw[1], original_hw[0] / size_hw[0]] * 2, np.float32)
    if description['results'] == 'image_masks':
        return _across_image(rows, description, size_hw, original_hw, factor)
    scores, labels, masks = (rows[name] for name in ('scores', 'labels', 'masks'))
    boxes = rows['boxes'] * factor
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


def _across_image(
    rows: Mapping[str, Array],
    description: Mapping[str, Any],
    size_hw: Size,
    original_hw: Size,
    factor: Array,
) -> Detections:
    """Decode detections whose masks (N, h, w) lie across the image.

    Probabilities reach a threshold. Logits are above 0, and the mean probability inside is a factor
    of the score, so that the order is known only now.
    """
    scores, labels = rows['scores'], rows['labels']
    name = 'mask_logits' if 'mask_logits' in rows else 'masks'
    maps = _full_maps(rows[name], description, size_hw, original_hw)
    found: Array = np.zeros((len(labels), *original_hw), bool)
    if name == 'masks':
        for row, probs in zip(found, maps, strict=True):
            row[:] = probs > description['mask_thr']
        boxes = rows['boxes'] * factor if 'boxes' in rows else _boxes_around(found)
        return Detections(found, boxes, labels, scores)
    quality = np.zeros(len(labels), np.float32)
    for i, logits in enumerate(maps):
        found[i] = logits > 0
        inside = logits[found[i]]
        quality[i] = (1 / (1 + np.exp(-inside))).sum() / (len(inside) + 1e-6)
    scores = scores * quality
    order = np.argsort(-scores, kind='stable')
    found = found[order]
    return Detections(found, _boxes_around(found), labels[order], scores[order])


def _full_maps(
    maps: Array, description: Mapping[str, Any], size_hw: Size, original_hw: Size
) -> Iterator[Array]:
    """Enlarge maps (N, h, w) one by one, cut the padding, and resize to the picture."""
    stride = description['mask_stride']
    enlarge = _enlarge_aligned if description.get('enlarge') == 'aligned' else _enlarge
    for one in maps:
        yield _resize(enlarge(one, stride)[: size_hw[0], : size_hw[1]], original_hw)


def _enlarge(values: Array, stride: int) -> Array:
    return _resize(values, (values.shape[0] * stride, values.shape[1] * stride))


def _enlarge_aligned(values: Array, stride: int) -> Array:
    """Enlarge (h, w) as mmdet's ``aligned_bilinear``: cell i is at the pixel (i + 1/2) stride."""
    height, width = values.shape
    # OpenCV knows places to a 32nd of a cell, which is exact for the strides there are.
    shift = -(stride // 2) / stride
    places = np.array([[1 / stride, 0, shift], [0, 1 / stride, shift]], np.float64)
    return np.asarray(
        cv2.warpAffine(
            np.ascontiguousarray(values, np.float32),
            places,
            (width * stride, height * stride),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


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
