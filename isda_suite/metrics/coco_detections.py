"""From predictions to COCO's list of results."""

from collections.abc import Sequence
from typing import Any

from .mask_code import as_array, encode_mask

Json = dict[str, Any]
#: Name of an evaluation -> the part of a detection it compares.
_PARTS = {'segm': 'masks', 'bbox': 'bboxes'}


def record_of(sample: Json) -> Json:
    """Return what is kept of a predicted sample, small enough to be gathered from all ranks.

    Args:
        sample: ``img_id`` and ``pred_instances`` with ``scores``, ``labels``, and any of
            ``masks`` (tensor, array or list of RLE), ``bboxes`` and ``mask_scores``.
    """
    found = sample['pred_instances']
    record = {'img_id': sample['img_id']}
    for key in ('scores', 'labels', 'bboxes', 'mask_scores'):
        if key in found:
            record[key] = as_array(found[key])
    if 'masks' in found:
        record['masks'] = _encoded(found['masks'])
    return record


def kinds_of(records: Sequence[Json]) -> set[str]:
    """Return which evaluations the records have parts for."""
    return {kind for kind, key in _PARTS.items() if any(key in record for record in records)}


def coco_results(records: Sequence[Json], kind: str, category_ids: Sequence[int]) -> list[Json]:
    """Return COCO's list of results: one dict a detection.

    Args:
        records: What :func:`record_of` kept.
        kind: ``'segm'`` (no boxes in the result, so that areas are those of the masks) or
            ``'bbox'`` (computed from masks where there are none).
        category_ids: Category of every label.

    Raises:
        ValueError: if the detections lack what the evaluation needs.
    """
    key = _PARTS[kind]
    detections = []
    for record in records:
        parts = record.get(key)
        if parts is None and kind == 'bbox' and 'masks' in record:
            parts = _boxes_of(record['masks'])
        if parts is None:
            raise ValueError(
                f"metric {kind!r} needs '{key}' in pred_instances; image {record['img_id']} has "
                f'only {sorted(record)}'
            )
        scores = record['scores']
        if kind == 'segm':
            scores = record.get('mask_scores', scores)
        for part, score, label in zip(parts, scores, record['labels'], strict=True):
            detections.append(
                {
                    'image_id': record['img_id'],
                    'category_id': category_ids[int(label)],
                    'score': float(score),
                    **({'segmentation': part} if kind == 'segm' else {'bbox': _xywh(part)}),
                }
            )
    return detections


def _encoded(masks: Any) -> list[Json]:
    """Return masks as RLE with text counts."""
    encoded = []
    for mask in masks if isinstance(masks, list) else as_array(masks):
        if not isinstance(mask, dict):
            mask = encode_mask(mask)
        if isinstance(mask['counts'], bytes):
            mask = {**mask, 'counts': mask['counts'].decode('ascii')}
        encoded.append(mask)
    return encoded


def _boxes_of(masks: list[Json]) -> list[list[float]]:
    from pycocotools import mask as coco_mask

    boxes = [coco_mask.toBbox(mask) for mask in masks]
    return [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h in boxes]


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]
