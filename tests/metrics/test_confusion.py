"""Confusion matrices: what a slow loop counts, exactly, for any size; and the numbers from them."""

import math

import pytest
import torch

from isda_suite.metrics.confusion import (
    class_ious,
    confusion,
    mean_iou_of_labelled,
    pixel_accuracy,
)

LABEL = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 255]], dtype=torch.uint8)
PRED = torch.tensor([[0, 2, 1, 0], [0, 0, 1, 1]])
COUNTS = [[3, 0, 1], [1, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize('kind', [torch.uint8, torch.int64])
def test_rows_are_labels_and_columns_predictions(kind):
    assert confusion(PRED, LABEL.to(kind), 3, 255).tolist() == COUNTS


@pytest.mark.parametrize('kind', [torch.uint8, torch.int64])
def test_images_larger_than_a_chunk_are_counted_whole(kind, monkeypatch):
    monkeypatch.setattr('isda_suite.metrics.confusion._CHUNK', 3)
    assert confusion(PRED, LABEL.to(kind), 3, 255).tolist() == COUNTS


@pytest.mark.parametrize('ignored', [0, 255, -100])
def test_bytes_are_counted_as_other_integers_are(ignored):
    generator = torch.Generator().manual_seed(0)
    label, pred = torch.randint(0, 5, (2, 40, 30), generator=generator)
    bytes_, others = (confusion(pred, label.to(k), 5, ignored) for k in (torch.uint8, torch.int64))
    assert torch.equal(bytes_, others)


def test_counts_go_on_beyond_the_integers_of_float32():
    side = 4200  # 17.6 million pixels, 2^24 are 16.8
    label = torch.zeros(side, side, dtype=torch.uint8)
    label[0, 0] = 1
    counts = confusion(torch.zeros(side, side, dtype=torch.int64), label, 2, 255)
    assert counts.tolist() == [[side**2 - 1, 0], [1, 0]]


@pytest.mark.parametrize(
    ('pred', 'label', 'message'),
    [
        (PRED[:, :2], LABEL, r'the prediction is \(h, w\) = \(2, 2\), the label \(2, 4\)'),
        (PRED - 1, LABEL, r'predicted values reach from -1 to 1'),
        (
            PRED,
            LABEL.clamp(max=7),
            r'labelled values reach from 0 to 7, but the classes are 0 to 2',
        ),
    ],
)
@pytest.mark.parametrize('kind', [torch.uint8, torch.int64])
def test_what_cannot_be_counted_is_named(pred, label, message, kind):
    with pytest.raises(ValueError, match=message):
        confusion(pred, label.to(kind), 3, 255)


def test_numbers_follow_from_the_counts():
    matrix = torch.tensor(COUNTS)
    assert class_ious(matrix).tolist() == pytest.approx([3 / 5, 2 / 3, 0])
    assert mean_iou_of_labelled(matrix) == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert pixel_accuracy(matrix) == pytest.approx(5 / 7)


def test_nothing_labelled_is_nan():
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    assert class_ious(matrix).isnan().all()
    assert math.isnan(mean_iou_of_labelled(matrix)) and math.isnan(pixel_accuracy(matrix))
