"""What a report keeps of tested images with class maps, and the sections it makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isda_suite.metrics.confusion import (
    class_ious,
    confusion,
    mean_iou_of_labelled,
    pixel_accuracy,
)
from isda_suite.metrics.mask_code import as_array
from isda_suite.visualization.confusion_matrix import draw_confusion_matrix
from isda_suite.visualization.html_page import Html, paragraph, picture, table

from .parts import Extremes, Ranked, Section, merged_extremes, pictures_section

Array = NDArray[Any]
#: Class maps that are kept for drawing are made smaller than this.
_MAX_SIDE = 1280
_MAX_MATRIX = 40
_MAX_CONFUSIONS = 20
_MEANING = 'By the mean IoU of the classes labelled in an image.'


class ShownMaps(NamedTuple):
    """What is needed to draw an image later; maps are PNG files in memory."""

    name: str
    path: str
    size_hw: tuple[int, int]
    found: bytes
    labelled: bytes


class SemanticCollector:
    """Count the pixels of images and keep the maps of few.

    Args:
        classes: Names of the classes.
        palette: Their colours, RGB.
        num_shown: How many of the best images to keep for drawing, and of the worst.
        ignore_index: Value of pixels of a label that do not count.
    """

    def __init__(
        self, classes: Sequence[str], palette: Any, num_shown: int, ignore_index: int = 255
    ) -> None:
        self.classes = list(classes)
        self.palette = palette if isinstance(palette, list | tuple) else None
        self.num_shown = num_shown
        self.ignore_index = ignore_index
        self._counts: dict[Any, tuple[Tensor, Tensor]] = {}
        self._extremes: Extremes[ShownMaps] = Extremes(num_shown)

    def add(self, sample: Mapping[str, Any], record: Any = None) -> None:
        """Count a tested image.

        Args:
            sample: ``img_path``, ``pred_sem_seg`` and ``gt_sem_seg``, whose ``data`` are
                (1, H, W); without labels it is left out.
            record: Not used.
        """
        path = str(sample.get('img_path', ''))
        if sample.get('gt_sem_seg') is None or path in self._counts:
            return
        found, labelled = (sample[key]['data'].squeeze(0) for key in ('pred_sem_seg', 'gt_sem_seg'))
        matrix = confusion(found, labelled, len(self.classes), self.ignore_index)
        cells = matrix.view(-1).nonzero().squeeze(1)  # an image holds few of the pairs of classes
        self._counts[path] = cells, matrix.view(-1)[cells]

        def shown() -> ShownMaps:
            size_hw = int(found.shape[0]), int(found.shape[1])
            return ShownMaps(path, path, size_hw, _packed(found), _packed(labelled))

        self._extremes.offer(mean_iou_of_labelled(matrix), int((matrix.sum(1) > 0).sum()), shown)

    def payload(self) -> tuple[dict[Any, tuple[Tensor, Tensor]], list[Ranked]]:
        """Return what the other ranks need."""
        return self._counts, self._extremes.taken()

    def sections(self, payloads: Sequence[Any]) -> list[Section]:
        """Make the sections of all ranks' images."""
        counts: dict[Any, tuple[Tensor, Tensor]] = {}
        for part, _ in payloads:
            counts |= part
        matrix = torch.zeros(len(self.classes) ** 2, dtype=torch.int64)
        for cells, numbers in counts.values():
            matrix[cells] += numbers
        matrix = matrix.view(len(self.classes), -1)
        found = merged_extremes(
            (kept for _, kept in payloads), self.num_shown, lambda one: one.path
        )
        return [
            ('Confusions', self._confusions(matrix, len(counts))),
            ('Classes', [_class_table(matrix, self.classes)]),
            *pictures_section(found, self._draw, _MEANING, 'images'),
        ]

    def _confusions(self, matrix: Tensor, num_images: int) -> list[Html]:
        ious = class_ious(matrix)
        title = (
            f'{num_images} images, pixel accuracy {100 * pixel_accuracy(matrix):.2f} %, '
            f'mIoU {100 * float(ious.nanmean()):.2f} %'
        )
        caption = 'Rows: labelled class; columns: predicted class.'
        shown = torch.arange(len(self.classes))
        wrong = matrix.clone().fill_diagonal_(0)
        if len(shown) > _MAX_MATRIX:
            most = (wrong + wrong.T).sum(1).argsort(descending=True, stable=True)
            shown = most[:_MAX_MATRIX].sort().values
            caption += f' The {_MAX_MATRIX} classes that are most often confused.'
        names = [self.classes[index] for index in shown.tolist()]
        drawn = draw_confusion_matrix(
            matrix[shown][:, shown].numpy(), names, ious[shown].tolist(), title
        )
        order = wrong.view(-1).argsort(descending=True, stable=True)[:_MAX_CONFUSIONS].tolist()
        total = max(int(matrix.sum()), 1)
        rows = []
        for index in order:
            label, other = divmod(index, len(self.classes))
            if wrong[label, other]:
                share = 100 * int(wrong[label, other]) / total
                names_of = self.classes[label], self.classes[other]
                rows.append([*names_of, int(wrong[label, other]), share])
        parts = [picture(drawn, caption, quality=0)]
        if rows:
            parts.append(table(['labelled', 'taken for', 'pixels', '% of all pixels'], rows))
        curves = 'Class maps have no scores, so there is no curve of precision over recall.'
        return [*parts, paragraph(curves, faint=True)]

    def _draw(self, item: ShownMaps) -> Array:
        from isda_suite.datasets.image_file import read_as_predicted
        from isda_suite.visualization.class_maps import draw_class_maps_side_by_side

        image = np.ascontiguousarray(read_as_predicted(item.path, item.size_hw)[..., ::-1])
        found, labelled = (_unpacked(one) for one in (item.found, item.labelled))
        height, width = found.shape
        if image.shape[:2] != found.shape:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        return draw_class_maps_side_by_side(image, labelled, found, self.classes, self.palette)


def _packed(labels: Tensor) -> bytes:
    array = as_array(labels).astype(np.uint16)
    longest = max(array.shape)
    if longest > _MAX_SIDE:
        size = [max(1, round(side * _MAX_SIDE / longest)) for side in array.shape[::-1]]
        array = np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_NEAREST))
    return bytes(cv2.imencode('.png', array)[1].tobytes())


def _unpacked(content: bytes) -> Array:
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(found).astype(np.int64)


def _class_table(matrix: Tensor, classes: Sequence[str]) -> Html:
    counts = matrix.double()
    right = counts.diagonal()
    labelled, predicted = counts.sum(1), counts.sum(0)
    columns = [
        class_ious(matrix),
        right / labelled,
        right / predicted,
        2 * right / (labelled + predicted),
        labelled / counts.sum(),
    ]
    rows = [
        [name, *(100 * float(column[index]) for column in columns), int(labelled[index])]
        for index, name in enumerate(classes)
    ]
    header = ['class', 'IoU', 'recall', 'precision', 'F1', '% of pixels', 'labelled pixels']
    return table(header, rows, bars=(1, 2, 3, 4, 5))
