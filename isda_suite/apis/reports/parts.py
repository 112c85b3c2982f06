"""Parts that the reports of all tasks share: best and worst of many, sections on detections."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from isda_suite.metrics.coco_evaluation import IOU_THRESHOLDS
from isda_suite.metrics.detection_analysis import DetectionAnalysis, analyse_detections
from isda_suite.metrics.detection_matching import ERRORS, Judged
from isda_suite.visualization.charts import draw_error_costs, draw_precision_recall
from isda_suite.visualization.confusion_matrix import draw_confusion_matrix
from isda_suite.visualization.html_page import Html, paragraph, picture, row, table

Array = NDArray[Any]
Section = tuple[str, Sequence[Html]]
Item = TypeVar('Item')
_MAX_MATRIX = 25
_MAX_CONFUSIONS = 20


class Ranked(NamedTuple):
    """Something with a quality, 0 to 1; of equal ones the larger is more to look at."""

    quality: float
    size: int
    tie: int
    item: Any


class Extremes(Generic[Item]):
    """The best and the worst of any number of things, in the memory of a few.

    Args:
        count: How many of each.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._ties = itertools.count()
        self._best: list[Ranked] = []
        self._worst: list[tuple[float, int, int, Ranked]] = []

    def offer(self, quality: float, size: int, make: Callable[[], Item]) -> None:
        """Take something, if it is among the best or worst so far.

        Args:
            quality: 0 to 1; nan is never taken.
            size: How much there is to see.
            make: Returns what is kept; called only if it is.
        """
        if math.isnan(quality) or not self.count:
            return
        tie = -next(self._ties)  # of equal ones the first stays
        low, high = (-quality, size, tie), (quality, size, tie)
        is_best = len(self._best) < self.count or high > self._best[0][:3]
        is_worst = len(self._worst) < 2 * self.count or low > self._worst[0][:3]
        if not is_best and not is_worst:
            return
        ranked = Ranked(*high, make())
        if is_best:
            _push(self._best, ranked, self.count)
        if is_worst:
            # Twice as many, as some may be among the best too: all may be alike.
            _push(self._worst, (*low, ranked), 2 * self.count)

    def split(self) -> tuple[list[Ranked], list[Ranked]]:
        """Return the worst, the worst first, and the best, the best first; none is in both."""
        best = sorted(self._best, reverse=True)
        chosen = {ranked.tie for ranked in best}
        worst = [entry[3] for entry in sorted(self._worst, reverse=True)]
        worst = [ranked for ranked in worst if ranked.tie not in chosen][: self.count]
        if worst:
            return worst, best
        half = len(best) // 2  # there are so few that all are among the best
        return best[len(best) - half :][::-1], best[: len(best) - half]

    def taken(self) -> list[Ranked]:
        """Return all that are kept, each once."""
        kept = {ranked.tie: ranked for ranked in self._best}
        return [*(kept | {entry[3].tie: entry[3] for entry in self._worst}).values()]


def _push(heap: list[Any], entry: Any, count: int) -> None:
    if len(heap) < count:
        heapq.heappush(heap, entry)
    else:
        heapq.heapreplace(heap, entry)


def merged_extremes(parts: Iterable[list[Ranked]], count: int, key: Callable[[Any], Any]) -> Any:
    """Return the extremes of all ranks together.

    Args:
        parts: What each rank kept.
        count: How many of each to keep.
        key: Says of an item which image it is; several ranks may have had the same one.
    """
    found: Extremes[Any] = Extremes(count)
    seen = set()
    for ranked in itertools.chain.from_iterable(parts):
        if key(ranked.item) not in seen:
            seen.add(key(ranked.item))
            found.offer(ranked.quality, ranked.size, lambda item=ranked.item: item)  # type: ignore[misc]
    return found


def analysis_of(judged: Sequence[Judged], num_classes: int) -> DetectionAnalysis:
    """Analyse what was judged of images or videos."""
    return analyse_detections([one.matches for one in judged], num_classes)


def detection_sections(
    judged: Sequence[Judged],
    analysis: DetectionAnalysis,
    classes: Sequence[str],
    score_thr: float,
    unit: str,
) -> list[Section]:
    """Make the sections on precision, errors, confusions and classes.

    Args:
        judged: One for each image or video.
        analysis: Of all of them, see :func:`analysis_of`.
        classes: Names of the classes.
        score_thr: The confusions are those of detections from this score on.
        unit: ``'images'`` or ``'videos'``.
    """
    curves = draw_precision_recall(analysis.precision, IOU_THRESHOLDS.tolist(), classes)
    costs = draw_error_costs(analysis.error_costs, analysis.error_counts)
    found = int(analysis.num_detected.sum())
    annotated = int(analysis.num_annotated.sum())
    note = (
        f'{len(judged)} {unit}, {annotated} annotated objects, {found} detections of any score. '
        'A detection counts as one kind of error at IoU 0.5: a wrong place (localisation: 0.1 to '
        '0.5 with an object of its class), a wrong class, a second one for the same object, the '
        'background, or place and class both wrong. The bars say by how much the AP would rise if '
        'that kind alone were mended (TIDE, arXiv:2008.08115).'
    )
    return [
        (
            'Precision, recall and errors',
            [
                row(picture(curves, 'Precision over recall', quality=0),
                    picture(costs, 'What the errors cost', quality=0)),
                paragraph(note, faint=True),
                paragraph(' '.join(_in_words(analysis))),
            ],
        ),
        ('Confusions', _confusions(judged, classes, score_thr)),
        ('Classes', [_class_table(analysis, classes)]),
    ]  # fmt: skip


def _in_words(analysis: DetectionAnalysis) -> list[str]:
    costs = {name: analysis.error_costs[name] for name in ERRORS}
    known = {name: cost for name, cost in costs.items() if not math.isnan(cost)}
    if not known:
        return ['Nothing is annotated, so nothing can be said about errors.']
    worst = max(known, key=lambda name: known[name])
    if known[worst] <= 0:
        return ['No kind of error costs anything.']
    return [f'The dearest kind of error is {worst}: {100 * known[worst]:.1f} points of AP.']


def _class_table(analysis: DetectionAnalysis, classes: Sequence[str]) -> Html:
    columns = [analysis.average_precision(), *map(analysis.average_precision, (0.5, 0.75))]
    columns.append(analysis.recall[0])
    rows = [
        [name, *(100 * float(column[label]) for column in columns), annotated, found]
        for label, (name, annotated, found) in enumerate(
            zip(
                classes,
                analysis.num_annotated.tolist(),
                analysis.num_detected.tolist(),
                strict=True,
            )
        )
    ]
    rows.sort(key=lambda cells: (math.isnan(cells[1]), -cells[5]))
    header = ['class', 'AP', 'AP 50', 'AP 75', 'recall 50', 'annotated', 'detected']
    return table(header, rows, bars=(1, 2, 3, 4))


def confusion_matrix(judged: Iterable[Judged], num_classes: int) -> Array:
    """Add up the confusions of all images: (K + 1, K + 1) int64, the background last."""
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for one in judged:
        # An image has every pair of classes once.
        matrix[one.cells[:, 0], one.cells[:, 1]] += one.cells[:, 2]
    return matrix


def _confusions(judged: Sequence[Judged], classes: Sequence[str], score_thr: float) -> list[Html]:
    """Draw the confusion matrix, of many classes that of the most confused, and list the worst."""
    count = len(classes)
    matrix = confusion_matrix(judged, count)
    names = [*classes, 'background']
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    shown: Array = np.arange(count + 1)
    note = ''
    if count > _MAX_MATRIX:
        most = np.argsort(-(wrong[:count, :count] + wrong[:count, :count].T).sum(1), kind='stable')
        shown = np.append(np.sort(most[:_MAX_MATRIX]), count)
        note = f' The {_MAX_MATRIX} classes that are most often confused with others.'
    drawn = draw_confusion_matrix(
        matrix[np.ix_(shown, shown)],
        [names[index] for index in shown],
        title=f'detections with score >= {score_thr:g}, IoU >= 0.5',
        unit='objects',
    )
    caption = (
        'Rows: what is annotated; columns: what was detected. The last column holds what was '
        f'missed, the last row what was detected where nothing is.{note}'
    )
    order = np.argsort(-wrong[:count, :count], axis=None, kind='stable')[:_MAX_CONFUSIONS]
    pairs = [np.unravel_index(index, (count, count)) for index in order.tolist()]
    rows = [[names[a], names[b], int(wrong[a, b])] for a, b in pairs if wrong[a, b]]
    parts = [picture(drawn, caption, quality=0)]
    if rows:
        parts.append(table(['annotated', 'taken for', 'times'], rows))
    return parts


def pictures_section(
    found: Extremes[Any], draw: Callable[[Any], Array], meaning: str, unit: str
) -> list[Section]:
    """Make the sections of the worst and the best.

    Args:
        found: What was kept.
        draw: Draws an item.
        meaning: What the quality is.
        unit: ``'images'`` or ``'videos'``.
    """
    sections: list[Section] = []
    worst, best = found.split()
    for title, ranked in ((f'Worst {unit}', worst), (f'Best {unit}', best)):
        parts = [paragraph(meaning, faint=True)]
        for one in ranked:
            caption = f'{one.item.name}: {100 * one.quality:.1f} %'
            try:
                parts.append(picture(draw(one.item), caption, max_width=1280))
            except (OSError, ValueError) as error:  # the report does without this picture
                parts.append(paragraph(f'{caption}: not drawn: {error}'))
        if ranked:
            sections.append((title, parts))
    return sections
