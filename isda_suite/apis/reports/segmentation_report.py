"""What a mean IoU hides: which classes are taken for which, and in which images.

A metric, but not in ``isda_suite.metrics``: it draws and writes files, which metrics do not.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.datasets.errors import DataError
from isda_suite.metrics.confusion import (
    class_ious,
    confusion,
    mean_iou_of_labelled,
    pixel_accuracy,
)
from isda_suite.registry import METRICS

#: Image, the cells of its confusion matrix that are not 0, and the counts in them.
_Result = tuple[str, Tensor, Tensor]
_COLUMNS = ('mIoU', 'pixel_accuracy', 'labelled_pixels', 'img_path')


@METRICS.register_module()
class SegmentationReport(BaseMetric):
    """Write a confusion matrix and a list of the images, the worst first.

    Into the folder go, each whole or not at all:

    * ``confusion_matrix.png``: rows in percent of the labelled pixels of a class, and its IoU;
    * ``confusion_matrix.csv``: pixel counts, a row for each labelled class;
    * ``per_image.csv``: of each image the mean IoU of the classes labelled in it and the pixel
      accuracy, both in percent, the labelled pixels and the path. Images without a labelled pixel
      have nan and come last.

    It adds no number to the table of metrics. Every evaluation writes the files anew.

    Args:
        out_dir: The folder.
        ignore_index: Value of pixels of a label that do not count.
        collect_device: Where the ranks gather their counts.
    """

    default_prefix = 'report'

    def __init__(
        self, out_dir: str | Path, ignore_index: int = 255, collect_device: str = 'cpu'
    ) -> None:
        super().__init__(collect_device=collect_device)
        self.out_dir = Path(out_dir)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W) each, and
                ``img_path``.

        Raises:
            DataError: without a label.
            ValueError: for labels outside of the classes or of another size than the prediction.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            path = str(sample.get('img_path', ''))
            if sample.get('gt_sem_seg') is None:
                raise DataError(f'{path}: no label was loaded: the pipeline needs LoadSegLabels')
            pred, label = (sample[key]['data'].squeeze(0) for key in ('pred_sem_seg', 'gt_sem_seg'))
            try:
                counts = confusion(pred, label, num_classes, self.ignore_index).reshape(-1)
            except ValueError as error:
                raise ValueError(f'{path}: {error}') from error
            # An image holds few of the pairs of classes; all images are kept until the end.
            cells = counts.nonzero().squeeze(1)
            self.results.append((path, cells, counts[cells]))

    def compute_metrics(self, results: list[_Result]) -> dict[str, float]:
        """Write the files; there is no number to give."""
        classes = list(self.dataset_meta['classes'])
        total = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        rows = []
        for path, cells, counts in results:
            matrix = torch.zeros(total.numel(), dtype=torch.int64).scatter(0, cells, counts)
            matrix = matrix.view_as(total)
            total += matrix
            rows.append(_row(path, matrix))
        rows.sort(key=lambda row: (math.isnan(row[0]), row[0], row[-1]))
        self._write_csv('per_image.csv', _COLUMNS, [_shown(row) for row in rows])
        table = [[name, *counts] for name, counts in zip(classes, total.tolist(), strict=True)]
        self._write_csv('confusion_matrix.csv', ['labelled \\ predicted', *classes], table)
        self._draw(total, classes, len(results))
        print_log(
            f'confusion_matrix.png, confusion_matrix.csv and per_image.csv (worst first) are in '
            f'{self.out_dir}',
            'current',
        )
        return {}

    def _draw(self, total: Tensor, classes: list[str], num_images: int) -> None:
        from isda_suite.visualization.confusion_matrix import draw_confusion_matrix
        from isda_suite.visualization.pictures import save_picture

        ious = class_ious(total)
        title = (
            f'{num_images} images, pixel accuracy {100 * pixel_accuracy(total):.2f} %, '
            f'mIoU {100 * float(ious.nanmean()):.2f} %'
        )
        picture = draw_confusion_matrix(total.numpy(), classes, ious.tolist(), title)
        save_picture(self.out_dir / 'confusion_matrix.png', picture)

    def _write_csv(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        with write_atomically(self.out_dir / name, text=True) as file:
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(header)
            writer.writerows(rows)


def _row(path: str, matrix: Tensor) -> tuple[float, float, int, str]:
    return (
        100 * mean_iou_of_labelled(matrix),
        100 * pixel_accuracy(matrix),
        int(matrix.sum()),
        path,
    )


def _shown(row: tuple[float, float, int, str]) -> tuple[str, str, int, str]:
    mean_iou, accuracy, labelled, path = row
    return f'{mean_iou:.2f}', f'{accuracy:.2f}', labelled, path
