"""Video AP of a results file: the official numbers, and those of every class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from isda_suite.datasets.youtube_vis_file import read_youtube_vis
from isda_suite.metrics.class_table import class_table
from isda_suite.metrics.coco_evaluation import Evaluation
from isda_suite.metrics.youtube_vis_evaluation import evaluate_results, video_numbers

from .results_file import check_annotations, check_results, read_results

Json = dict[str, Any]
_WARNING = 30
# IoU, area and limit of each number, as the owners of YouTube-VIS print them.
_PRINTED = (
    ('mAP', '0.50:0.95', 'all', 100),
    ('mAP_50', '0.50', 'all', 100),
    ('mAP_75', '0.75', 'all', 100),
    ('mAP_s', '0.50:0.95', 'small', 100),
    ('mAP_m', '0.50:0.95', 'medium', 100),
    ('mAP_l', '0.50:0.95', 'large', 100),
    ('AR@1', '0.50:0.95', 'all', 1),
    ('AR@10', '0.50:0.95', 'all', 10),
    ('AR@100', '0.50:0.95', 'all', 100),
    ('AR_s@100', '0.50:0.95', 'small', 100),
    ('AR_m@100', '0.50:0.95', 'medium', 100),
    ('AR_l@100', '0.50:0.95', 'large', 100),
)


@dataclass(frozen=True)
class VideoAP:
    """The numbers of video instance segmentation.

    Args:
        numbers: The official 12 as parts of 1, by the names of
            :func:`~isda_suite.metrics.youtube_vis_evaluation.video_numbers`; nan where nothing is
            annotated.
        per_class: The same of each class by its name.
    """

    numbers: dict[str, float]
    per_class: dict[str, dict[str, float]]

    def official_lines(self) -> str:
        """Return the numbers in the form that the owners' program prints."""
        lines = []
        for name, iou, area, limit in _PRINTED:
            title = '(AR)' if name.startswith('AR') else '(AP)'
            words = 'Average Recall' if title == '(AR)' else 'Average Precision'
            value = self.numbers[name]
            lines.append(
                f' {words:<18} {title} @[ IoU={iou:<9} | area={area:>6} | maxDets={limit:>3} ] = '
                f'{value:.3f}'
            )
        return '\n'.join(lines)

    def class_table(self) -> str:
        """Return the numbers of every class as a table, in percent."""
        return class_table(self.per_class)


def summarize(evaluation: Evaluation, categories: Sequence[Json]) -> VideoAP:
    """Take the numbers out of what was measured.

    Args:
        evaluation: What was measured.
        categories: ``id`` and ``name`` of its categories.
    """
    names = {category['id']: str(category['name']) for category in categories}
    per_class = {
        names[category]: video_numbers(evaluation, position)
        for position, category in enumerate(evaluation.category_ids)
    }
    return VideoAP(video_numbers(evaluation), per_class)


def evaluate_video_results(
    results: str | Path | list[Json], annotations: str | Path | Json
) -> VideoAP:
    """Evaluate a results file as the evaluation server does.

    Every video of the annotation file counts, with or without a result.

    Args:
        results: ``results.json``, the zip with it, or its content.
        annotations: Annotation file in the form of YouTube-VIS, or its content.

    Returns:
        The numbers.

    Raises:
        FileNotFoundError: if a file is missing.
        DataError: if a file cannot be used; lists everything that is wrong.
    """
    name = 'the annotations' if isinstance(annotations, dict) else str(annotations)
    content = annotations if isinstance(annotations, dict) else read_youtube_vis(annotations)
    check_annotations(content, name)
    of = 'the results' if isinstance(results, list) else str(results)
    entries = results if isinstance(results, list) else read_results(results)
    unknown = check_results(entries, content, of)
    if unknown:
        print_log(
            f'{of}: {unknown.total()} results of categories that {name} does not have never '
            f'count: {sorted(unknown, key=str)[:10]}',
            'current',
            _WARNING,
        )
    found = summarize(evaluate_results(content, entries), content['categories'])
    if not entries or math.isnan(found.numbers['mAP']):
        reason = 'there is no result' if not entries else 'everything annotated is a crowd'
        print_log(f'{of}: {reason}: see the numbers in that light', 'current', _WARNING)
    return found
