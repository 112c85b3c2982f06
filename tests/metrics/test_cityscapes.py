"""The evaluation of Cityscapes in the instance configuration: its paths, names and class ids."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from isda_suite.engine.config_file import read_config

pytest.importorskip('cityscapesscripts', reason='pip install cityscapesscripts')
CONFIG = 'configs/idip/idip_r50_2xb8-90k_cityscapes.py'
NAME = 'town/town_000000_000019'
IDS = {'car': 26, 'person': 24}  # of Cityscapes
PLACES = {'car': np.s_[10:40, 10:70], 'person': np.s_[30:60, 80:100]}
SIZE = (64, 128)


@pytest.fixture
def dataset(tmp_path):
    """One image with a car and a person, as the download and mmdet's converter lay them out."""
    cfg = read_config(CONFIG, {'data_root': f'{tmp_path}/'})
    ids = np.zeros(SIZE, np.uint16)
    annotations = []
    for number, (name, place) in enumerate(PLACES.items()):
        ids[place] = IDS[name] * 1000 + number
        mask = np.zeros(SIZE, np.uint8, order='F')
        mask[place] = 1
        rle = coco_mask.encode(mask)
        box = coco_mask.toBbox(rle).tolist()
        rle['counts'] = rle['counts'].decode()
        entry = dict(id=number, image_id=1, category_id=IDS[name], segmentation=rle, bbox=box)
        annotations.append(entry | dict(area=int(mask.sum()), iscrowd=0))
    for folder, suffix, array in (
        ('leftImg8bit', 'leftImg8bit', np.full((*SIZE, 3), 90, np.uint8)),
        ('gtFine', 'gtFine_instanceIds', ids),
    ):
        path = tmp_path / folder / 'val' / f'{NAME}_{suffix}.png'
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), array)
    names = cfg.test_dataloader.dataset.metainfo.classes
    categories = [dict(id=IDS.get(name, 90 + i), name=name) for i, name in enumerate(names)]
    image = dict(id=1, file_name=f'{NAME}_leftImg8bit.png', height=SIZE[0], width=SIZE[1])
    content = dict(images=[image], categories=categories, annotations=annotations)
    file = tmp_path / cfg.test_dataloader.dataset.ann_file
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield cfg, DATASETS.build(cfg.test_dataloader.dataset)


def score(cfg, dataset, tmp_path, names):
    masks = np.zeros((2, *SIZE), bool)
    for mask, place in zip(masks, PLACES.values(), strict=True):
        mask[place] = True
    found = InstanceData(
        masks=torch.from_numpy(masks),
        labels=torch.tensor([dataset.metainfo['classes'].index(name) for name in names]),
        scores=torch.tensor([0.9, 0.8]),
    )
    metric = copy.deepcopy(cfg.test_evaluator[1])
    metric['outfile_prefix'] = str(tmp_path / 'results')
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dataset.metainfo
    sample = copy.deepcopy(dataset[0]['data_samples'])
    sample.pred_instances = found
    evaluator.process(data_samples=[sample], data_batch={})
    return evaluator.evaluate(1)


def test_right_masks_are_perfect_and_exchanged_classes_are_not(dataset, tmp_path):
    cfg, data = dataset
    assert score(cfg, data, tmp_path, ['car', 'person'])['cityscapes/mAP'] == 1
    assert score(cfg, data, tmp_path, ['person', 'car'])['cityscapes/mAP'] == 0
