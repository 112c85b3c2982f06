"""Where average precision is lost: precision, recall and errors by kind over a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coco_evaluation import IOU_THRESHOLDS
from .detection_matching import ERRORS, IGNORED, RIGHT, Matches

Array = NDArray[Any]
RECALLS = np.linspace(0, 1, 101)
_MOVED = ('localisation', 'classification')


@dataclass(frozen=True)
class DetectionAnalysis:
    """What a data set's detections are worth, and what their errors cost.

    Axes: T IoU thresholds, R recall levels, K classes. Classes without annotation hold nan.

    Args:
        precision: (T, R, K).
        recall: (T, K), the highest that is reached.
        num_annotated: (K,).
        num_detected: (K,).
        error_counts: By the names of :data:`.detection_matching.ERRORS`, at IoU 0.5.
        error_costs: By the same names and ``false positives`` and ``false negatives``: how much
            the AP at IoU 0.5 would rise if there were none of them.
    """

    precision: Array
    recall: Array
    num_annotated: Array
    num_detected: Array
    error_counts: dict[str, int]
    error_costs: dict[str, float]

    def average_precision(self, threshold: float | None = None) -> Array:
        """Return the AP of every class, (K,); averaged over thresholds if none is given."""
        if threshold is None:
            return self.precision.mean((0, 1))
        return self.precision[int(np.argmin(abs(IOU_THRESHOLDS - threshold)))].mean(0)


class _Table:
    """All detections as columns, and the annotations of all images numbered through."""

    def __init__(self, records: Sequence[Matches], num_classes: int) -> None:
        self.num_classes = num_classes
        self.scores, self.labels, self.hits, self.ignored, self.errors = (
            _joined([getattr(one, key) for one in records])
            for key in ('scores', 'labels', 'hits', 'ignored', 'errors')
        )
        starts = np.cumsum([0, *(len(one.gt_labels) for one in records)])
        self.targets = _joined(
            [
                np.where(one.targets >= 0, one.targets + start, -1)
                for one, start in zip(records, starts[:-1], strict=True)
            ]
        ).astype(np.int64)
        self.gt_labels = _joined([one.gt_labels for one in records]).astype(np.int64)
        self.num_annotated = np.bincount(self.gt_labels, minlength=num_classes)

    def curves(
        self, scores: Array, labels: Array, right: Array, num_annotated: Array
    ) -> tuple[Array, Array]:
        """Return precision (R, K) and recall (K,) of detections that count."""
        precision = np.full((len(RECALLS), self.num_classes), np.nan)
        recall = np.full(self.num_classes, np.nan)
        order = np.lexsort((-scores, labels))
        ends = np.searchsorted(labels[order], np.arange(self.num_classes + 1))
        for label in np.flatnonzero(num_annotated > 0).tolist():
            hits = right[order[ends[label] : ends[label + 1]]].cumsum()
            reached = hits / num_annotated[label]
            values = hits / np.arange(1, len(hits) + 1)
            values = np.maximum.accumulate(values[::-1])[::-1]
            where = np.searchsorted(reached, RECALLS, side='left')
            inside = where < len(values)
            precision[:, label] = 0.0
            precision[inside, label] = values[where[inside]]
            recall[label] = reached[-1] if len(reached) else 0.0
        return precision, recall

    def mean_ap(self, keep: Array, right: Array, labels: Array, num_annotated: Array) -> float:
        """Return the mean AP of the kept detections; 1 of classes that lost all annotations."""
        precision, _ = self.curves(self.scores[keep], labels[keep], right[keep], num_annotated)
        emptied = (self.num_annotated > 0) & (num_annotated == 0)
        return _mean(np.where(emptied, 1.0, precision.mean(0)))


def analyse_detections(records: Sequence[Matches], num_classes: int) -> DetectionAnalysis:
    """Put the matches of all images together.

    What an error costs is found by mending it alone and computing the AP at IoU 0.5 again. A wrong
    place or class is mended by giving the detection the annotation it aims at; if several then
    have the same one, the best stays. Other wrong detections are taken away, missed annotations
    too. An annotation counts as missed if no detection aims at it with a wrong place or class.

    Args:
        records: One for each image or video.
        num_classes: K.

    Source: TIDE (arXiv:2008.08115), section 2.3.
    """
    table = _Table(records, num_classes)
    by_threshold = []
    for bit in range(len(IOU_THRESHOLDS)):
        keep = (table.ignored >> bit & 1) == 0
        right = (table.hits[keep] >> bit & 1).astype(np.int64)
        by_threshold.append(
            table.curves(table.scores[keep], table.labels[keep], right, table.num_annotated)
        )
    precision, recall = (np.stack(one) for one in zip(*by_threshold, strict=True))
    missed = _missed(table)
    counts = {name: int((table.errors == code).sum()) for code, name in enumerate(ERRORS)}
    return DetectionAnalysis(
        precision=precision,
        recall=recall,
        num_annotated=table.num_annotated,
        num_detected=np.bincount(table.labels, minlength=num_classes),
        error_counts={**counts, 'missed': int(missed.sum())},
        error_costs=_costs(table, missed),
    )


def _missed(table: _Table) -> Array:
    """Say which annotations no detection finds or aims at."""
    missed = np.ones(len(table.gt_labels), dtype=bool)
    aimed = np.isin(table.errors, [RIGHT, *map(ERRORS.index, _MOVED)])
    missed[table.targets[aimed & (table.targets >= 0)]] = False
    return missed


def _costs(table: _Table, missed: Array) -> dict[str, float]:
    counted = table.errors != IGNORED
    right = (table.errors == RIGHT).astype(np.int64)
    base = table.mean_ap(counted, right, table.labels, table.num_annotated)
    costs = {}
    for code, name in enumerate(ERRORS):
        keep, mended, labels, annotated = counted, right, table.labels, table.num_annotated
        if name == 'missed':
            gone = np.bincount(table.gt_labels[missed], minlength=table.num_classes)
            annotated = annotated - gone
        elif name in _MOVED:
            keep, mended, labels = _moved(table, code, counted)
        else:
            keep = counted & (table.errors != code)
        costs[name] = table.mean_ap(keep, mended, labels, annotated) - base
    found = np.bincount(table.labels[right > 0], minlength=table.num_classes)
    none_wrong = table.mean_ap(right > 0, right, table.labels, table.num_annotated)
    none_missing = table.mean_ap(counted, right, table.labels, found)
    costs['false positives'] = none_wrong - base
    costs['false negatives'] = none_missing - base
    return costs


def _moved(table: _Table, code: int, counted: Array) -> tuple[Array, Array, Array]:
    """Give each annotation the best of its finder and those with this error that aim at it."""
    candidates = np.flatnonzero((table.errors == RIGHT) | (table.errors == code))
    candidates = candidates[np.lexsort((-table.scores[candidates], table.targets[candidates]))]
    _, first = np.unique(table.targets[candidates], return_index=True)
    winners = candidates[first]
    keep = counted.copy()
    keep[candidates] = False
    keep[winners] = True
    right = np.zeros(len(table.scores), np.int64)
    right[winners] = 1
    labels = table.labels.copy()
    labels[winners] = table.gt_labels[table.targets[winners]]
    return keep, right, labels


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')
