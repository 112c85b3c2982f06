"""The COCO metric: hand-made cases, both back-ends, nothing detected, nothing annotated."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask

from isda_suite.metrics import CocoMetric
from isda_suite.metrics.coco_evaluation import backend_in_use
from tests.data.coco_fake.make import HEIGHT, WIDTH, content

BACKENDS = ['pycocotools', 'faster']


@pytest.fixture
def logged(caplog):
    """Give what mmengine's logger says; it does not hand its records on."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def _metric(tmp_path, annotations=None, **options):
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(annotations or content()))
    metric = CocoMetric(str(path), **options)
    metric.dataset_meta = {'classes': ('cat', 'dog')}
    return metric


def _mask(rows, columns):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[rows, columns] = True
    return mask


SQUARE, LOW = _mask(slice(8, 28), slice(10, 30)), _mask(slice(30, 46), slice(2, 12))


def _predict(metric, image_id, masks, labels, scores=None, **more):
    masks = torch.as_tensor(np.array(masks)).reshape(-1, HEIGHT, WIDTH)
    scores = torch.as_tensor(scores if scores is not None else [0.9] * len(labels))
    found = {'masks': masks, 'labels': torch.tensor(labels, dtype=torch.long), 'scores': scores}
    metric.process({}, [{'img_id': image_id, 'pred_instances': found | more}])


def _perfect(metric):
    _predict(metric, 10, [SQUARE, LOW], [0, 1])
    _predict(metric, 11, [SQUARE], [1])
    _predict(metric, 12, [], [])
    return metric.evaluate(3)


@pytest.mark.parametrize('backend', BACKENDS)
def test_perfect_masks_reach_one_without_any_box(tmp_path, backend):
    values = _perfect(_metric(tmp_path, backend=backend))
    assert values['coco/segm_mAP'] == pytest.approx(1.0)
    assert values['coco/segm_mAP_s'] == pytest.approx(1.0)
    assert math.isnan(values['coco/segm_mAP_l'])
    assert list(values)[6:] == [
        f'coco/segm_{name}'
        for name in ('AR@1', 'AR@10', 'AR@100', 'AR_s@100', 'AR_m@100', 'AR_l@100')
    ]


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_wrong_class_above_the_right_one_halves_the_precision(tmp_path, backend):
    metric = _metric(tmp_path, backend=backend)
    _predict(metric, 10, [SQUARE, SQUARE, LOW], [1, 0, 1], [0.9, 0.8, 0.7])
    _predict(metric, 11, [SQUARE], [1], [0.6])
    _predict(metric, 12, [], [])
    values = metric.evaluate(3)
    # Dog: false at 0.9, right at 0.7 and 0.6: precision 2/3 at every recall. Cat: 1.
    assert values['coco/segm_mAP'] == pytest.approx((1 + 2 / 3) / 2, abs=1e-3)


def test_labels_follow_names_whatever_the_order_in_the_json(tmp_path):
    annotations = content()
    annotations['categories'].reverse()
    assert _perfect(_metric(tmp_path, annotations))['coco/segm_mAP'] == pytest.approx(1.0)
    metric = _metric(tmp_path)
    metric.dataset_meta = {'classes': ('dog', 'cat')}
    assert _perfect(metric)['coco/segm_mAP'] == 0


def test_detections_in_a_crowd_are_not_counted(tmp_path):
    metric = _metric(tmp_path)
    _predict(metric, 10, [SQUARE, LOW], [0, 1])
    _predict(metric, 11, [SQUARE], [1])
    _predict(metric, 12, [_mask(slice(None), slice(0, 8))], [0], [0.99])
    assert metric.evaluate(3)['coco/segm_mAP'] == pytest.approx(1.0)


@pytest.mark.parametrize('backend', BACKENDS)
def test_nothing_detected_is_zero_in_every_field_with_a_warning(tmp_path, backend, logged):
    metric = _metric(tmp_path, backend=backend)
    for image_id in (10, 11, 12):
        _predict(metric, image_id, [], [])
    values = metric.evaluate(3)
    assert len(values) == 12
    assert set(values.values()) == {0.0}
    assert 'segm: nothing was detected in 3 images (3 objects annotated' in logged.text


def test_nothing_annotated_is_nan(tmp_path):
    annotations = content()
    annotations['annotations'] = []
    metric = _metric(tmp_path, annotations)
    _predict(metric, 10, [SQUARE], [0])
    values = metric.evaluate(1)
    assert set(values) == set(_perfect(_metric(tmp_path)))
    assert all(math.isnan(value) for value in values.values())


def test_limits_of_detections_can_be_those_of_the_original_isda(tmp_path):
    values = _perfect(_metric(tmp_path, max_dets=(100, 300, 1000)))
    assert values['coco/segm_AR@300'] == pytest.approx(1.0)
    assert 'coco/segm_AR_s@1000' in values
    few = _metric(tmp_path, max_dets=(1,))
    _predict(few, 10, [SQUARE, SQUARE], [0, 0], [0.9, 0.8])
    assert 'coco/segm_AR@1' in few.evaluate(1)


def test_boxes_come_from_masks_when_a_model_gives_none(tmp_path):
    metric = _metric(tmp_path, metric=['bbox', 'proposal'])
    _predict(metric, 10, [SQUARE, LOW], [0, 0])
    _predict(metric, 11, [SQUARE], [0])
    _predict(metric, 12, [], [])
    values = metric.evaluate(3)
    assert values['coco/proposal_AR@100'] == pytest.approx(1.0)
    assert values['coco/bbox_mAP'] < 0.6


def test_classwise_values_and_scores_of_masks(tmp_path):
    metric = _metric(tmp_path, classwise=True)
    _predict(metric, 10, [SQUARE, LOW], [0, 1], mask_scores=torch.tensor([0.2, 0.1]))
    values = metric.evaluate(1)
    assert values['coco/segm_cat_mAP'] == pytest.approx(1.0)


def test_annotations_without_area_or_mask_are_completed(tmp_path):
    annotations = content()
    for one in annotations['annotations'][:2]:
        del one['area'], one['iscrowd']
    annotations['annotations'][2]['segmentation'] = []
    metric = _metric(tmp_path, annotations)
    _predict(metric, 10, [SQUARE, LOW], [0, 1])
    _predict(metric, 11, [SQUARE], [1], [0.99])
    # The third one has no mask: a region in which nothing counts, not a missed object.
    assert metric.evaluate(2)['coco/segm_mAP'] == pytest.approx(1.0)


def test_results_are_written_for_a_server_and_not_evaluated(tmp_path):
    prefix = tmp_path / 'out' / 'results'
    metric = _metric(tmp_path, format_only=True, outfile_prefix=str(prefix))
    assert _perfect(metric) == {}
    written = json.loads(prefix.with_name('results.segm.json').read_text())
    assert {one['category_id'] for one in written} == {5, 9}
    assert coco_mask.decode(written[0]['segmentation']).sum() == 400


def test_the_ground_truth_can_be_named_by_the_data_set(tmp_path):
    metric = _metric(tmp_path)
    path, metric.ann_file = metric.ann_file, None
    with pytest.raises(ValueError, match='no ground truth'):
        _perfect(metric)
    metric = CocoMetric()
    metric.dataset_meta = {'classes': ('cat', 'dog'), 'ann_file': path}
    assert _perfect(metric)['coco/segm_mAP'] == pytest.approx(1.0)


def test_wrong_use_is_explained(tmp_path):
    with pytest.raises(ValueError, match="got 'keypoints'"):
        CocoMetric(metric='keypoints')
    with pytest.raises(ValueError, match='outfile_prefix'):
        CocoMetric(format_only=True)
    with pytest.raises(ValueError, match='max_dets'):
        CocoMetric(max_dets=())
    with pytest.raises(ValueError, match=r'auto, pycocotools, faster'):
        backend_in_use('slow')
    metric = _metric(tmp_path)
    metric.dataset_meta = {'classes': ('cat', 'cow')}
    with pytest.raises(ValueError, match=r"\['cow'\] are not in the annotation file"):
        _perfect(metric)
    metric = _metric(tmp_path)
    found = {'scores': [0.5], 'labels': [0]}
    metric.process({}, [{'img_id': 10, 'pred_instances': found}])
    with pytest.raises(ValueError, match="needs 'masks' in pred_instances; image 10"):
        metric.evaluate(1)
