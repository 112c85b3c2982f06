"""Instances in a report: several processes, LVIS's rules, boxes alone, regions to be ignored."""

import json

import numpy as np
import pytest
import torch

from isda_suite.apis.reports.instances import (
    AnnotatedImages,
    InstanceCollector,
    annotated_instances,
)
from isda_suite.apis.reports.parts import analysis_of
from isda_suite.metrics.detection_matching import ERRORS, IGNORED, RIGHT

SIZE_HW = (20, 30)


class Dataset:
    """Two images with one object of class 0 each."""

    def __init__(self, **changes):
        box = {'bbox': [2, 2, 12, 12], 'bbox_label': 0, 'ignore_flag': 0}
        box['mask'] = [[2, 2, 12, 2, 12, 12, 2, 12]]
        self.instances = [box | changes]

    def __len__(self):
        return 2

    def get_data_info(self, index):
        return {'img_id': 10 + index, 'instances': self.instances}


class LVISV05Dataset(Dataset):
    cat2label = {1: 0, 2: 1, 3: 2}  # noqa: RUF012


def _sample(img_id, *found, masks=True):
    labels, scores = zip(*found, strict=True)
    instances = {'labels': torch.tensor(labels), 'scores': torch.tensor(scores)}
    instances['bboxes'] = torch.tensor([[2.0, 2, 12, 12]] * len(found))
    if masks:
        instances['masks'] = torch.zeros(len(found), *SIZE_HW, dtype=torch.bool)
        instances['masks'][:, 2:12, 2:12] = True
    return {'img_id': img_id, 'img_path': '', 'ori_shape': SIZE_HW, 'pred_instances': instances}


def _collector(dataset):
    return InstanceCollector(AnnotatedImages(dataset), ['a', 'b', 'c'], 2, 0.3)


def test_an_image_that_two_processes_had_counts_once():
    first, second = _collector(Dataset()), _collector(Dataset())
    first.add(_sample(10, (0, 0.9)))
    second.add(_sample(11, (1, 0.9)))
    second.add(_sample(10, (0, 0.9)))
    payloads = [first.payload(), second.payload()]
    judged = first.judged_of(payloads)
    assert [one.matches.errors.tolist() for one in judged] == [[RIGHT], [1]]
    analysis = analysis_of(judged, 3)
    assert analysis.num_annotated.tolist() == [2, 0, 0]
    parts = dict(first.sections(payloads))
    worst, best = (''.join(parts[f'{name} images']) for name in ('Worst', 'Best'))
    assert worst.count('11: 0.0 %') == 1 and best.count('10: 100.0 %') == 1


def test_an_image_of_another_data_set_is_left_out():
    collector = _collector(Dataset())
    collector.add(_sample(99, (0, 0.9)))
    assert not collector.judged


@pytest.mark.parametrize('masks', [True, False])
def test_boxes_do_where_there_are_no_masks(masks):
    collector = _collector(Dataset())
    collector.add(_sample(10, (0, 0.9), masks=masks))
    [judged] = collector.judged.values()
    assert judged.quality == pytest.approx(1.0)


def test_lvis_judges_classes_that_are_annotated_or_known_to_be_absent(tmp_path):
    content = {
        'images': [
            {'id': 10, 'neg_category_ids': [2], 'not_exhaustive_category_ids': []},
            {'id': 11, 'neg_category_ids': [2], 'not_exhaustive_category_ids': [1]},
        ],
        'annotations': [],
        'categories': [],
    }
    dataset = LVISV05Dataset()
    dataset.ann_file = tmp_path / 'lvis.json'
    dataset.ann_file.write_text(json.dumps(content))
    collector = _collector(dataset)
    for image in (10, 11):
        collector.add(_sample(image, (0, 0.9), (0, 0.8), (1, 0.7), (2, 0.6)))
    duplicate, wrong_class = ERRORS.index('duplicate'), ERRORS.index('classification')
    found = {key: one.matches.errors.tolist() for key, one in collector.judged.items()}
    # nothing is known of class 2; of class 0 not all is annotated in the second image
    assert found == {10: [RIGHT, duplicate, wrong_class], 11: [RIGHT, IGNORED, wrong_class]}


@pytest.mark.parametrize('mask', [None, [[0.0] * 4]])
def test_what_has_no_mask_is_a_region_to_be_ignored(mask):
    found = annotated_instances(Dataset(mask=mask).instances, SIZE_HW, 'segm')
    assert found.ignored.tolist() == [True]
    from pycocotools import mask as coco_mask

    pixels = np.asarray(coco_mask.decode(found.regions[0]))
    assert pixels.sum() == 100 and pixels[2:12, 2:12].all()
    assert not annotated_instances(Dataset(mask=mask).instances, SIZE_HW, 'bbox').ignored.any()
