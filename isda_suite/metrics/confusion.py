"""Confusion matrices of class maps: exact counts in little memory, and what follows from them."""

import numpy as np
import torch
from torch import Tensor

#: Pixels that are counted at once: 32 MB of indices.
_CHUNK = 2**22
_BYTES = 256


def confusion(pred: Tensor, label: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count for every pair of classes the pixels labelled as one and predicted as the other.

    Args:
        pred: (H, W) integer class indices.
        label: (H, W) integer class indices, any integer type.
        num_classes: K, the number of classes.
        ignore_index: Value of pixels of ``label`` that do not count.

    Returns:
        (K, K) int64 on the CPU: a row for each labelled class, a column for each predicted one.

    Raises:
        ValueError: if the sizes differ or a value is no class.
    """
    if pred.shape != label.shape:
        raise ValueError(
            f'the prediction is (h, w) = {tuple(pred.shape)}, the label {tuple(label.shape)}'
        )
    pred, label = pred.reshape(-1), label.reshape(-1).to(pred.device)
    if label.dtype == torch.uint8 and pred.device.type == 'cpu' and num_classes <= _BYTES:
        return _count_bytes(_as_bytes(pred), label, num_classes, ignore_index)
    counts = torch.zeros(num_classes**2, dtype=torch.int64)
    for start in range(0, len(label), _CHUNK):
        found, wanted = pred[start : start + _CHUNK], label[start : start + _CHUNK]
        counted = wanted != ignore_index
        found, wanted = found[counted].long(), wanted[counted].long()
        _check_range(found, num_classes, 'predicted')
        _check_range(wanted, num_classes, 'labelled')
        counts += torch.bincount(wanted * num_classes + found, minlength=num_classes**2).cpu()
    return counts.view(num_classes, num_classes)


def _as_bytes(pred: Tensor) -> Tensor:
    if pred.dtype != torch.uint8:
        _check_range(pred, _BYTES, 'predicted')
    return pred.to(torch.uint8)


def _count_bytes(pred: Tensor, label: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Count pairs of bytes with OpenCV, some fifty times as fast as with indices."""
    import cv2

    counts = torch.zeros(_BYTES, _BYTES, dtype=torch.int64)
    bins, ranges = [_BYTES] * 2, [0, _BYTES] * 2
    # OpenCV counts in float32, which is exact up to 2^24.
    for start in range(0, len(label), _CHUNK):
        maps = [part[start : start + _CHUNK].numpy()[None] for part in (label, pred)]
        pairs = cv2.calcHist(maps, [0, 1], None, bins, ranges)
        counts += torch.from_numpy(np.asarray(pairs)).long()
    if 0 <= ignore_index < _BYTES:
        counts[ignore_index] = 0
    _check_range(counts.sum(0).nonzero(), num_classes, 'predicted')
    _check_range(counts.sum(1).nonzero(), num_classes, 'labelled')
    return counts[:num_classes, :num_classes].clone()


def class_ious(matrix: Tensor) -> Tensor:
    """Return the IoU of every class, nan where it is neither labelled nor predicted.

    Args:
        matrix: (K, K) as :func:`confusion` gives it, or a sum of such.

    Returns:
        (K,) float64, 0 to 1.
    """
    counts = matrix.double()
    intersection = counts.diagonal()
    return intersection / (counts.sum(1) + counts.sum(0) - intersection)


def mean_iou_of_labelled(matrix: Tensor) -> float:
    """Return the mean IoU of the classes that are labelled, nan if there are none.

    Args:
        matrix: (K, K) as :func:`confusion` gives it.
    """
    return float(class_ious(matrix)[matrix.sum(1) > 0].mean())


def pixel_accuracy(matrix: Tensor) -> float:
    """Return the share of labelled pixels with the right class, nan if there are none.

    Args:
        matrix: (K, K) as :func:`confusion` gives it.
    """
    return float(matrix.diagonal().sum().double() / matrix.sum().double())


def _check_range(values: Tensor, num_classes: int, what: str) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
        raise ValueError(
            f'{what} values reach from {int(values.min())} to {int(values.max())}, but the classes '
            f'are 0 to {num_classes - 1}: set ignore_index, or mend the labels'
        )
