"""The report beside a mean IoU: counts, the images with the worst first, a picture."""

import csv

import cv2
import pytest
import torch
from mmengine.registry import DefaultScope

from isda_suite.datasets.errors import DataError
from isda_suite.registry import METRICS

CLASSES = ('land', 'sea', 'ice')


def sample(pred, label, name):
    return {
        'pred_sem_seg': {'data': torch.tensor([pred])},
        'gt_sem_seg': {'data': torch.tensor([label], dtype=torch.uint8)},
        'img_path': f'images/{name}.png',
    }


GOOD = sample([[0, 1], [1, 1]], [[0, 1], [1, 255]], 'good')
BAD = sample([[0, 2], [0, 0]], [[0, 1], [1, 1]], 'bad')
EMPTY = sample([[0, 0], [0, 0]], [[255, 255], [255, 255]], 'empty')


@pytest.fixture
def report(tmp_path):
    """Write a report of samples; returns its folder."""

    def write(*samples, **options):
        with DefaultScope.overwrite_default_scope('mmseg'):
            kind = {'type': 'isda_suite.SegmentationReport', 'out_dir': tmp_path / 'r', **options}
            metric = METRICS.build(kind)
        metric.dataset_meta = {'classes': CLASSES}
        metric.process(None, samples)
        assert metric.evaluate(len(samples)) == {}
        return tmp_path / 'r'

    return write


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.reader(file))


def test_images_come_with_the_worst_first_and_those_without_labels_last(report):
    header, *rows = rows_of(report(EMPTY, GOOD, BAD) / 'per_image.csv')
    assert header == ['mIoU', 'pixel_accuracy', 'labelled_pixels', 'img_path']
    assert rows == [
        # land: 1 of 3, sea: 0 of 3; ice is predicted, but not labelled
        ['16.67', '25.00', '4', 'images/bad.png'],
        ['100.00', '100.00', '3', 'images/good.png'],
        ['nan', 'nan', '0', 'images/empty.png'],
    ]


def test_the_counts_are_those_of_all_images(report):
    folder = report(GOOD, BAD)
    assert rows_of(folder / 'confusion_matrix.csv') == [
        ['labelled \\ predicted', *CLASSES],
        ['land', '2', '0', '0'],
        ['sea', '2', '2', '1'],
        ['ice', '0', '0', '0'],
    ]
    assert cv2.imread(str(folder / 'confusion_matrix.png')).shape[2] == 3
    assert len(list(folder.iterdir())) == 3


def test_ignored_pixels_are_those_of_the_metric(report):
    rows = rows_of(report(BAD, ignore_index=1) / 'per_image.csv')
    assert rows[1][:3] == ['100.00', '100.00', '1']


def test_a_label_that_is_no_class_is_named(report):
    with pytest.raises(ValueError, match=r'images/strange\.png: labelled values reach from 0 to 3'):
        report(sample([[0, 0]], [[0, 3]], 'strange'))


def test_an_image_without_a_label_says_what_the_pipeline_needs(report):
    with pytest.raises(DataError, match=r'bad\.png: no label was loaded: .* LoadSegLabels'):
        report({key: value for key, value in BAD.items() if key != 'gt_sem_seg'})
