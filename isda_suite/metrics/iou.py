"""IoU of class maps that counts exactly and in little memory, whatever the size of an image."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.evaluation import IoUMetric as MmsegIoUMetric

from isda_suite.registry import METRICS

#: Pixels that are counted at once: 32 MB of indices.
_CHUNK = 2**22


@METRICS.register_module()
class IoUMetric(MmsegIoUMetric):
    """Mean IoU, accuracy, Dice or F-score of semantic segmentation.

    Different from mmseg's metric: pixels are counted as integers, so images of more than 2^24
    pixels are counted exactly too; a label that is no class and not ignored is an error instead of
    a wrong pixel; an image of 5000 x 5000 pixels takes 180 MB instead of 1030 (measured).

    Args:
        **kwargs: Arguments of mmseg's ``IoUMetric``.

    Raises:
        ValueError: in evaluation, for labels outside of the classes or of another size than the
            prediction.
    """

    format_only: bool

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples with ``pred_sem_seg`` and ``gt_sem_seg``, (1, H, W) each, and
                ``img_path``.
        """
        num_classes = len(self.dataset_meta['classes'])
        if self.output_dir is not None:
            self._write(data_batch, data_samples)
        if self.format_only:
            return
        for sample in data_samples:
            try:
                areas = self.intersect_and_union(
                    sample['pred_sem_seg']['data'].squeeze(),
                    sample['gt_sem_seg']['data'].squeeze(),
                    num_classes,
                    self.ignore_index,
                )
            except ValueError as error:
                raise ValueError(f'{sample.get("img_path", "an image")}: {error}') from error
            self.results.append(areas)

    def _write(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        before, self.format_only = self.format_only, True
        super().process(data_batch, data_samples)  # writes the pictures and counts nothing
        self.format_only = before

    @staticmethod
    def intersect_and_union(
        pred_label: torch.Tensor, label: torch.Tensor, num_classes: int, ignore_index: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Count the pixels of each class.

        Args:
            pred_label: (H, W) integer class indices.
            label: (H, W) integer class indices, any integer type.
            num_classes: Number of classes.
            ignore_index: Value of pixels of ``label`` that do not count.

        Returns:
            Intersection, union, predicted and labelled pixels of each class, (num_classes,)
            float64 on the CPU.

        Raises:
            ValueError: if the sizes differ or a value is no class.
        """
        if pred_label.shape != label.shape:
            raise ValueError(
                f'the prediction is (h, w) = {tuple(pred_label.shape)}, the label '
                f'{tuple(label.shape)}'
            )
        counts = torch.zeros(num_classes**2, dtype=torch.int64)
        label, pred_label = label.reshape(-1).to(pred_label.device), pred_label.reshape(-1)
        for start in range(0, len(label), _CHUNK):
            found, wanted = pred_label[start : start + _CHUNK], label[start : start + _CHUNK]
            counted = wanted != ignore_index
            found, wanted = found[counted].long(), wanted[counted].long()
            _check_range(found, num_classes, 'predicted')
            _check_range(wanted, num_classes, 'labelled')
            joint = torch.bincount(wanted * num_classes + found, minlength=num_classes**2)
            counts += joint.cpu()
        matrix = counts.view(num_classes, num_classes).double()
        intersection, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        return intersection.clone(), labelled + predicted - intersection, predicted, labelled


def _check_range(values: torch.Tensor, num_classes: int, what: str) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
        raise ValueError(
            f'{what} values reach from {int(values.min())} to {int(values.max())}, but the classes '
            f'are 0 to {num_classes - 1}: set ignore_index, or mend the labels'
        )
