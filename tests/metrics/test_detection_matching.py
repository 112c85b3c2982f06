"""Errors by kind, and what they cost, against cases done by hand and against COCO's evaluation."""

import numpy as np
import pytest

from isda_suite.metrics.coco_evaluation import evaluate, load_ground_truth
from isda_suite.metrics.detection_analysis import analyse_detections
from isda_suite.metrics.detection_matching import (
    ERRORS,
    IGNORED,
    RIGHT,
    best_of_each_class,
    confusion_of_image,
    judge_detections,
    match_detections,
    panoptic_quality,
)


def judge(ious, scores, labels, gt_labels, ignored=None, classes=2, **options):
    ignored = np.zeros(len(gt_labels), bool) if ignored is None else np.array(ignored)
    shape = (len(scores), len(gt_labels))
    return judge_detections(
        np.array(ious, float).reshape(shape),
        np.array(scores, float),
        np.array(labels, int),
        np.array(gt_labels, int),
        ignored,
        classes,
        0.3,
        **options,
    )


# One detection for each kind, over two annotations: class 0 and class 1.
CASES = {
    'localisation': ([0.3, 0.0], 0),
    'classification': ([0.0, 0.8], 0),
    'background': ([0.05, 0.1], 0),
    'both': ([0.0, 0.3], 0),
    'right': ([0.6, 0.0], 0),
}


@pytest.mark.parametrize('kind', CASES)
def test_a_detection_is_named_by_its_overlaps(kind):
    ious, label = CASES[kind]
    found = judge([ious], [0.9], [label], [0, 1]).matches
    code = RIGHT if kind == 'right' else ERRORS.index(kind)
    assert found.errors.tolist() == [code]
    target = {'localisation': 0, 'classification': 1, 'right': 0}.get(kind, -1)
    assert found.targets.tolist() == [target]


def test_the_second_detection_of_an_object_is_a_duplicate():
    found = judge([[0.6], [0.9]], [0.8, 0.9], [0, 0], [0]).matches
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])  # best first
    assert found.errors.tolist() == [RIGHT, ERRORS.index('duplicate')]


def test_an_ignored_region_takes_any_number_and_counts_for_nothing():
    judged = judge([[0.9], [0.8]], [0.9, 0.8], [0, 0], [0], ignored=[True])
    assert judged.matches.errors.tolist() == [IGNORED, IGNORED]
    analysis = analyse_detections([judged.matches], 2)
    assert analysis.num_annotated.tolist() == [0, 0]
    assert np.isnan(analysis.average_precision()).all()


def test_what_is_not_annotated_exhaustively_is_no_error():
    found = judge([[0.0]], [0.9], [1], [0], lenient={1}).matches
    assert found.errors.tolist() == [IGNORED]


def test_without_annotations_everything_is_background():
    judged = judge([], [0.9, 0.5], [0, 1], [])
    assert judged.matches.errors.tolist() == [ERRORS.index('background')] * 2
    assert judged.quality == 0


def test_without_detections_everything_is_missed():
    judged = judge([], [], [], [0, 1])
    analysis = analyse_detections([judged.matches], 2)
    assert analysis.error_counts['missed'] == 2
    assert analysis.average_precision(0.5).tolist() == [0, 0]
    assert judged.quality == 0 and judged.cells.tolist() == [[0, 2, 1], [1, 2, 1]]


def test_nothing_at_all_has_no_quality():
    assert np.isnan(judge([], [], [], []).quality)


def test_confusions_name_class_background_and_missed():
    ious = [[0.9, 0, 0], [0, 0.8, 0], [0, 0, 0.2], [0, 0, 0.9]]
    judged = judge(ious, [0.9, 0.8, 0.7, 0.1], [0, 0, 1, 1], [0, 1, 1])
    # right; class 1 taken for 0; nothing there; and what scores too little is not shown
    assert judged.cells.tolist() == [[0, 0, 1], [1, 0, 1], [1, 2, 1], [2, 1, 1]]
    cells = confusion_of_image(judged.matches, np.array(ious), 2, 0.0)
    assert cells.tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 1], [2, 1, 1]]


def test_the_quality_of_an_image_by_its_formula():
    judged = judge([[0.8, 0], [0, 0]], [0.9, 0.8], [0, 0], [0, 1])
    assert judged.quality == pytest.approx(0.8 / (1 + 0.5 + 0.5))
    assert panoptic_quality(judged.matches, 0.95) == 0


def test_of_each_class_the_best_are_kept():
    scores, labels = np.array([0.1, 0.9, 0.5, 0.4]), np.array([0, 0, 0, 1])
    assert best_of_each_class(scores, labels, 2).tolist() == [1, 2, 3]


# What mending one kind alone gives: the AP at IoU 0.5 is 1/2 with nothing mended, as one of two
# annotations is found by the best detection; recall stays at 1/2, read at 51 of 101 levels.
BASE = 51 / 101


@pytest.mark.parametrize(
    ('kind', 'second', 'gains'),
    [
        ('localisation', ([0.0, 0.3], 0), {'localisation': 1 - BASE, 'false negatives': 1 - BASE}),
        ('duplicate', ([0.9, 0.0], 0), {'missed': 1 - BASE, 'false negatives': 1 - BASE}),
        ('background', ([0.0, 0.0], 0), {'missed': 1 - BASE, 'false negatives': 1 - BASE}),
    ],
)
def test_a_kind_of_error_costs_what_mending_it_gains(kind, second, gains):
    judged = judge([[0.9, 0.0], second[0]], [0.9, 0.8], [0, second[1]], [0, 0], classes=1)
    found = analyse_detections([judged.matches], 1)
    assert found.average_precision(0.5).tolist() == pytest.approx([BASE])
    assert found.error_counts[kind] == 1
    wanted = {name: gains.get(name, 0.0) for name in found.error_costs}
    assert found.error_costs == pytest.approx(wanted)


def test_a_wrong_class_is_mended_by_the_right_one():
    judged = judge([[0.9, 0.0], [0.0, 0.9]], [0.8, 0.9], [0, 0], [0, 1])
    found = analyse_detections([judged.matches], 2)
    # class 0: the wrong one comes first, precision 1/2; class 1: nothing
    assert found.average_precision(0.5).tolist() == pytest.approx([0.5, 0])
    assert found.error_costs['classification'] == pytest.approx(0.75)
    assert found.error_costs['false positives'] == pytest.approx(0.25)
    assert found.error_counts['missed'] == 0


def test_of_two_that_aim_at_one_object_the_better_stays():
    judged = judge([[0.3], [0.9]], [0.9, 0.8], [0, 0], [0], classes=1)
    found = analyse_detections([judged.matches], 1)
    assert found.average_precision(0.5).tolist() == pytest.approx([0.5])
    assert found.error_costs['localisation'] == pytest.approx(0.5)


def _random_boxes(rng, count):
    corner = rng.uniform(0, 40, (count, 2))
    return np.concatenate([corner, rng.uniform(4, 30, (count, 2))], 1)


def test_precision_and_recall_are_those_of_coco():
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    images, annotations, detections, records = [], [], [], []
    for image in range(1, 13):
        images.append({'id': image, 'height': 80, 'width': 80})
        boxes, labels = _random_boxes(rng, 6), rng.integers(0, 3, 6)
        crowd = rng.uniform(size=6) < 0.2
        for box, label, is_crowd in zip(boxes, labels, crowd, strict=True):
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image,
                    'category_id': int(label) + 1,
                    'bbox': box.tolist(),
                    'area': float(box[2] * box[3]),
                    'iscrowd': int(is_crowd),
                }
            )
        near = boxes[rng.integers(0, 6, 8)] + rng.normal(0, 2, (8, 4))
        found = np.concatenate([near, _random_boxes(rng, 3)])
        classes, scores = rng.integers(0, 3, 11), rng.permutation(1000)[:11] / 1000
        for box, label, score in zip(found, classes, scores, strict=True):
            detections.append(
                {
                    'image_id': image,
                    'category_id': int(label) + 1,
                    'bbox': box.tolist(),
                    'score': float(np.float32(score)),
                }
            )
        ious = np.asarray(coco_mask.iou(found, boxes, crowd.tolist())).reshape(11, 6)
        records.append(match_detections(ious, scores, classes, labels, crowd))
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i, 'name': str(i)} for i in (1, 2, 3)],
    }
    truth = load_ground_truth(content, 'pycocotools')
    wanted = evaluate(truth, detections, 'bbox', range(1, 13), [1, 2, 3])
    found = analyse_detections(records, 3)
    assert 0.01 < wanted.precision[..., 0, -1].mean() < 0.99
    np.testing.assert_allclose(found.precision, wanted.precision[..., 0, -1], atol=1e-12)
    np.testing.assert_allclose(found.recall, wanted.recall[..., 0, -1], atol=1e-12)
