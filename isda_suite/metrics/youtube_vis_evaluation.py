"""Video average precision as YouTube-VIS defines it: tracks in, precision and recall out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coco_evaluation import (
    IOU_THRESHOLDS,
    Evaluation,
    average_precisions,
    average_recalls,
)
from .youtube_vis_tracks import Json, Track, annotated_track, found_track, sequence_ious

Array = NDArray[Any]
#: Smallest and largest mean area, in pixels, both included: all, small, medium, large.
AREA_RANGES = np.array([[0, 1e10], [0, 128**2], [128**2, 256**2], [256**2, 1e10]])
MAX_DETS = (1, 10, 100)
_RECALLS = np.linspace(0, 1, 101)
Cell = tuple[Any, Any]


@dataclass(frozen=True)
class _Matches:
    """What became of the results of one video and category, best score first.

    Axis letters: A areas, T thresholds, D results.

    Args:
        scores: (D,).
        hit: (A, T, D), whether an annotation was found.
        ignored: (A, T, D), whether the result counts neither as right nor as wrong.
        num_annotated: (A,) annotations that count.
    """

    scores: Array
    hit: Array
    ignored: Array
    num_annotated: Array


def evaluate_tracks(
    annotated: dict[Cell, list[Track]],
    found: dict[Cell, list[Track]],
    category_ids: Sequence[Any],
    max_dets: Sequence[int] = MAX_DETS,
) -> Evaluation:
    """Compare the tracks of every video and category.

    Args:
        annotated: (video id, category id) -> annotations in the order of the file.
        found: (video id, category id) -> results; other categories than those asked for and
            videos of neither are no matter.
        category_ids: Categories to evaluate.
        max_dets: Limits of results a video and category, ascending.

    Returns:
        Precision and recall; -1 where nothing is annotated.
    """
    categories = sorted(category_ids)
    limits = tuple(sorted(max_dets))
    by_category: dict[Any, list[Cell]] = defaultdict(list)
    for cell in sorted(annotated.keys() | found.keys()):
        by_category[cell[1]].append(cell)
    shape = (len(IOU_THRESHOLDS), len(_RECALLS), len(categories), len(AREA_RANGES), len(limits))
    precision = -np.ones(shape)
    recall = -np.ones((shape[0], *shape[2:]))
    for index, category in enumerate(categories):
        matches = [
            match_tracks(found.get(cell, []), annotated.get(cell, []), limits[-1])
            for cell in by_category[category]
        ]
        longest = max((len(one.scores) for one in matches), default=0)
        for area in range(len(AREA_RANGES)):
            for position, limit in enumerate(limits):
                if not position or longest > limits[position - 1]:
                    curve = _curve(matches, area, limit)  # else the one before
                if curve is not None:
                    precision[:, :, index, area, position], recall[:, index, area, position] = curve
    return Evaluation(precision, recall, tuple(categories), limits, IOU_THRESHOLDS)


def match_tracks(found: Sequence[Track], annotated: Sequence[Track], limit: int) -> _Matches:
    """Match the results of one video and category with its annotations.

    In the order of scores, each result takes the annotation of the highest IoU above the threshold
    that is still free, of equal ones the later; annotations that do not count only where there is
    no other. A crowd is never taken.

    Args:
        found: Results; the best ``limit`` of them take part.
        annotated: Annotations.
        limit: Largest number of results.
    """
    found = sorted(found, key=lambda track: -track.score)[:limit]
    ious = sequence_ious(found, annotated, at_least=IOU_THRESHOLDS[0])
    crowd = np.array([track.crowd for track in annotated], dtype=bool)
    outside = _outside(annotated)
    counted = ~(outside | crowd)
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    free = np.ones((len(AREA_RANGES), len(thresholds), len(annotated)), dtype=bool)
    hit = np.zeros((*free.shape[:2], len(found)), dtype=bool)
    ignored = np.zeros_like(hit)
    areas, levels = np.indices(free.shape[:2])
    for index in np.flatnonzero((ious >= thresholds[0]).any(-1)).tolist():
        row = ious[index]
        near = (free | crowd) & (row >= thresholds[:, None])
        regular = near & counted[:, None]
        some_regular = regular.any(-1, keepdims=True)
        value = np.where(np.where(some_regular, regular, near), row, -1.0)
        chosen = len(row) - 1 - value[..., ::-1].argmax(-1)
        taken = near.any(-1)
        hit[..., index] = taken
        ignored[..., index] = taken & ~some_regular[..., 0]
        free[areas[taken], levels[taken], chosen[taken]] = False
    ignored |= ~hit & _outside(found)[:, None]
    scores = np.array([track.score for track in found], dtype=float)
    return _Matches(scores, hit, ignored, counted.sum(-1))


def _outside(tracks: Sequence[Track]) -> Array:
    """Say which tracks lie outside of each area range, (A, tracks)."""
    areas = np.array([track.mean_area for track in tracks], dtype=float)
    return (areas < AREA_RANGES[:, :1]) | (areas > AREA_RANGES[:, 1:])


def _curve(matches: Sequence[_Matches], area: int, limit: int) -> tuple[Array, Array] | None:
    """Return precision (T, R) and recall (T,) of a category; None if nothing is annotated."""
    num_annotated = sum(int(one.num_annotated[area]) for one in matches)
    if not num_annotated:
        return None
    order = np.argsort(-np.concatenate([one.scores[:limit] for one in matches]), kind='stable')
    hit, ignored = (
        np.concatenate([getattr(one, key)[area, :, :limit] for one in matches], axis=1)[:, order]
        for key in ('hit', 'ignored')
    )
    precision = np.zeros((len(hit), len(_RECALLS)))
    if not len(order):
        return precision, np.zeros(len(hit))
    right = (hit & ~ignored).cumsum(1).astype(float)
    wrong = (~hit & ~ignored).cumsum(1).astype(float)
    recalls = right / num_annotated
    precisions = right / (wrong + right + np.spacing(1))
    precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    for row, values, reached in zip(precision, precisions, recalls, strict=True):
        where = np.searchsorted(reached, _RECALLS, side='left')
        inside = where < len(values)
        row[inside] = values[where[inside]]
    return precision, recalls[:, -1]


def tracks_of_file(content: Json) -> dict[Cell, list[Track]]:
    """Return the annotations of a YouTube-VIS file by video and category.

    Annotations of absent videos or categories are left out.
    """
    return _by_cell(content.get('annotations') or (), content, annotated_track)


def tracks_of_results(results: Sequence[Json], content: Json) -> dict[Cell, list[Track]]:
    """Return the entries of a results file by video and category.

    Args:
        results: ``video_id``, ``category_id``, ``score``, ``segmentations`` of each. Categories
            that the annotation file does not have never count, so they are left out.
        content: The annotation file.
    """
    return _by_cell(results, content, found_track)


def _by_cell(entries: Sequence[Json], content: Json, make: Any) -> dict[Cell, list[Track]]:
    sizes = {video['id']: (video['height'], video['width']) for video in content['videos']}
    categories = {category['id'] for category in content['categories']}
    tracks: dict[Cell, list[Track]] = defaultdict(list)
    for entry in entries:
        size = sizes.get(entry['video_id'])
        if size is not None and entry['category_id'] in categories:
            tracks[entry['video_id'], entry['category_id']].append(make(entry, *size))
    return dict(tracks)


def evaluate_results(content: Json, results: Sequence[Json]) -> Evaluation:
    """Evaluate the entries of a results file against an annotation file.

    Nothing is checked here. An empty list of results gives zeros.

    Args:
        content: ``videos``, ``categories``, ``annotations``.
        results: See :func:`tracks_of_results`.
    """
    return evaluate_tracks(
        tracks_of_file(content),
        tracks_of_results(results, content),
        [category['id'] for category in content['categories']],
    )


def video_numbers(evaluation: Evaluation, category: int | None = None) -> dict[str, float]:
    """Return the 12 official numbers, nan where nothing is annotated.

    Args:
        evaluation: What was measured.
        category: Position of one category; ``None`` averages over all.

    Returns:
        ``mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l, AR@1, AR@10, AR@100, AR_s@100, AR_m@100,
        AR_l@100``.
    """
    if category is not None:
        one = slice(category, category + 1)
        evaluation = Evaluation(
            evaluation.precision[:, :, one],
            evaluation.recall[:, one],
            evaluation.category_ids[one],
            evaluation.max_dets,
            evaluation.iou_thrs,
        )
    return average_precisions(evaluation) | average_recalls(evaluation)
