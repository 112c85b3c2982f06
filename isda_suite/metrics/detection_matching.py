"""What became of every detection of an image, or of every track of a video: right, or wrong how."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .coco_evaluation import IOU_THRESHOLDS

Array = NDArray[Any]
#: Kinds of wrong detections, in the order in which they are looked for, and what is not found.
ERRORS = ('localisation', 'classification', 'duplicate', 'background', 'both', 'missed')
#: Codes of detections that are not wrong; the others are places in :data:`ERRORS`.
RIGHT, IGNORED = -1, -2
FOREGROUND_IOU = float(IOU_THRESHOLDS[0])
BACKGROUND_IOU = 0.1
_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND, _BOTH = range(5)


class Matches(NamedTuple):
    """What became of the detections of one image, best first, in few bytes.

    Axes: D detections, G annotations that count, T IoU thresholds (0.50:0.05:0.95).

    Attributes:
        scores: (D,) float32.
        labels: (D,) int32.
        hits: (D,) uint16, bit t set where the detection takes an annotation at threshold t.
        ignored: (D,) uint16, bit t set where it counts neither as right nor as wrong.
        errors: (D,) int8 at IoU 0.5: :data:`RIGHT`, :data:`IGNORED` or a place in :data:`ERRORS`.
        targets: (D,) int32, the annotation that was found, or that a detection with a wrong place
            or a wrong class aims at; -1 for others.
        target_ious: (D,) float32, the IoU with it.
        gt_labels: (G,) int32.
    """

    scores: Array
    labels: Array
    hits: Array
    ignored: Array
    errors: Array
    targets: Array
    target_ious: Array
    gt_labels: Array


def match_detections(
    ious: Array,
    scores: Array,
    labels: Array,
    gt_labels: Array,
    gt_ignored: Array,
    lenient: Collection[int] = (),
) -> Matches:
    """Match the detections of one image as COCO does, and name what is wrong with the others.

    In the order of scores each detection takes the free annotation of its class with the highest
    IoU; regions to be ignored only where there is no other, and as often as needed. A detection
    that takes nothing at IoU 0.5 is, by the first condition that holds:

    * localisation: an annotation of its class has an IoU of 0.1 to 0.5 with it, and none more;
    * classification: one of another class has an IoU of at least 0.5;
    * duplicate: one of its class has, but a better detection took it;
    * background: no annotation has more than 0.1;
    * both: what remains, a wrong place and a wrong class.

    Axes: D detections, G annotations.

    Args:
        ious: (D, G); with regions to be ignored the share of the detection inside.
        scores: (D,).
        labels: (D,).
        gt_labels: (G,).
        gt_ignored: (G,) bool.
        lenient: Labels of which not everything is annotated (LVIS): what takes nothing of these
            is ignored instead of wrong.

    Source: COCO's evaluation; TIDE (arXiv:2008.08115), section 2.2.
    """
    order = np.argsort(-scores, kind='stable')
    ious, scores, labels = ious[order], scores[order], labels[order]
    same = labels[:, None] == gt_labels[None]
    hit, ignored, taken = _take(np.where(same, ious, 0.0), gt_ignored)
    if lenient:
        ignored |= ~hit & np.isin(labels, list(lenient))[:, None]
    counted = np.flatnonzero(~gt_ignored)
    position = np.full(len(gt_labels) + 1, -1)
    position[counted] = np.arange(len(counted))
    errors, targets = _name_errors(ious[:, counted], same[:, counted], hit[:, 0], ignored[:, 0])
    found = errors == RIGHT
    targets[found] = position[taken[found]]
    bits = 1 << np.arange(hit.shape[1], dtype=np.uint16)
    aimed = np.flatnonzero(targets >= 0)
    target_ious = np.zeros(len(scores), np.float32)
    target_ious[aimed] = ious[aimed, counted[targets[aimed]]]
    return Matches(
        scores.astype(np.float32),
        labels.astype(np.int32),
        (hit * bits).sum(1, dtype=np.uint16),
        (ignored * bits).sum(1, dtype=np.uint16),
        errors.astype(np.int8),
        targets.astype(np.int32),
        target_ious,
        gt_labels[counted].astype(np.int32),
    )


def _take(ious: Array, gt_ignored: Array) -> tuple[Array, Array, Array]:
    """Match greedily at all thresholds.

    Returns:
        (D, T) whether a detection takes something, (D, T) whether that is to be ignored, and (D,)
        what it takes at the first threshold, -1 for nothing.
    """
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    shape = (len(ious), len(thresholds))
    hit, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    taken = np.full(len(ious), -1)
    free = np.ones((len(thresholds), len(gt_ignored)), dtype=bool)
    levels = np.arange(len(thresholds))
    for index in np.flatnonzero((ious >= thresholds[0]).any(-1)).tolist():
        row = ious[index]
        near = free & (row >= thresholds[:, None])
        regular = near & ~gt_ignored
        some_regular = regular.any(-1, keepdims=True)
        value = np.where(np.where(some_regular, regular, near), row, -1.0)
        chosen = len(row) - 1 - value[:, ::-1].argmax(-1)  # of equal ones the last, as in COCO
        done = near.any(-1)
        hit[index] = done
        ignored[index] = done & ~some_regular[:, 0]
        used = done & some_regular[:, 0]
        free[levels[used], chosen[used]] = False
        taken[index] = chosen[0] if done[0] else -1
    return hit, ignored, taken


def _name_errors(ious: Array, same: Array, hit: Array, ignored: Array) -> tuple[Array, Array]:
    """Return the code of each detection and what it aims at, among annotations that count."""
    count = len(hit)
    errors = np.where(ignored, IGNORED, np.where(hit, RIGHT, _BACKGROUND))
    targets = np.full(count, -1)
    wrong = errors == _BACKGROUND
    if not ious.shape[1] or not wrong.any():
        return errors, targets
    own, others = np.where(same, ious, -1.0), np.where(same, -1.0, ious)
    own_best, others_best = own.max(1), others.max(1)
    near = (own_best >= BACKGROUND_IOU) & (own_best < FOREGROUND_IOU)
    conditions = [
        near,
        others_best >= FOREGROUND_IOU,
        own_best >= FOREGROUND_IOU,
        np.maximum(own_best, others_best) <= BACKGROUND_IOU,
    ]
    codes = [_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND]
    errors[wrong] = np.select(conditions, codes, _BOTH)[wrong]
    for code, values in ((_LOCALISATION, own), (_CLASSIFICATION, others)):
        some = errors == code
        targets[some] = values[some].argmax(1)
    return errors, targets


def best_of_each_class(scores: Array, labels: Array, limit: int) -> Array:
    """Return the places of the detections that COCO looks at: the best ``limit`` of each class."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    order = np.lexsort((-scores, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    return np.sort(order[rank < limit])


def confusion_of_image(matches: Matches, ious: Array, num_classes: int, score_thr: float) -> Array:
    """Count which classes are taken for which; the last row and column are the background.

    Detections keep what they found of their own class; of the rest each takes, in the order of
    scores, the free annotation with the highest IoU of at least 0.5.

    Axes: K classes, D detections, G annotations that count.

    Args:
        matches: Of the image.
        ious: (D, G) in the order of ``matches``.
        num_classes: K.
        score_thr: Detections below are left out.

    Returns:
        (n, 3) int64: annotated class, detected class, count; K is the background.
    """
    shown = matches.scores >= score_thr
    right = shown & (matches.errors == RIGHT)
    left = np.ones(len(matches.gt_labels), dtype=bool)
    left[matches.targets[right]] = False
    pairs = [(int(label), int(label)) for label in matches.labels[right]]
    for index in np.flatnonzero(shown & (matches.errors >= 0)).tolist():
        row = np.where(left, ious[index], -1.0)
        place = int(row.argmax()) if row.size else -1
        if place >= 0 and row[place] >= FOREGROUND_IOU:
            left[place] = False
            pairs.append((int(matches.gt_labels[place]), int(matches.labels[index])))
        else:
            pairs.append((num_classes, int(matches.labels[index])))
    pairs += [(int(label), num_classes) for label in matches.gt_labels[left]]
    if not pairs:
        return np.zeros((0, 3), np.int64)
    cells, counts = np.unique(np.array(pairs, np.int64), axis=0, return_counts=True)
    return np.concatenate([cells, counts[:, None]], 1)


def panoptic_quality(matches: Matches, score_thr: float) -> float:
    r"""Say how good the detections of an image are that would be shown.

    .. math:: PQ = \frac{\sum_{right} IoU}{|right| + |wrong| / 2 + |missed| / 2}

    Args:
        matches: Of the image.
        score_thr: Detections below are not shown.

    Returns:
        0 to 1; nan if nothing is annotated and nothing shown.

    Source: panoptic quality (arXiv:1801.00868), without its demand that masks do not overlap.
    """
    shown = matches.scores >= score_thr
    right = shown & (matches.errors == RIGHT)
    wrong = int((shown & (matches.errors >= 0)).sum())
    missed = len(matches.gt_labels) - int(right.sum())
    total = right.sum() + 0.5 * (wrong + missed)
    return float(matches.target_ious[right].sum() / total) if total else float('nan')


class Judged(NamedTuple):
    """What a report keeps of an image.

    Attributes:
        matches: Every detection, and what became of it.
        cells: (n, 3) of :func:`confusion_of_image`.
        quality: See :func:`panoptic_quality`.
    """

    matches: Matches
    cells: Array
    quality: float


def judge_detections(
    ious: Array,
    scores: Array,
    labels: Array,
    gt_labels: Array,
    gt_ignored: Array,
    num_classes: int,
    score_thr: float,
    lenient: Collection[int] = (),
) -> Judged:
    """Do everything there is to do with one image; arguments as for the functions above."""
    order = np.argsort(-scores, kind='stable')
    ious, scores, labels = ious[order], scores[order], labels[order]
    matches = match_detections(ious, scores, labels, gt_labels, gt_ignored, lenient)
    cells = confusion_of_image(matches, ious[:, ~gt_ignored], num_classes, score_thr)
    return Judged(matches, cells, panoptic_quality(matches, score_thr))
