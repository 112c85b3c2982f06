"""The pipelines of the shipped instance configs on a tiny data set."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed

from isda_suite.registry import DATASETS
from tests.data.coco_fake.make import config, make

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'


def _build(tmp_path, base, part='train_pipeline', **changes):
    make(tmp_path)
    pipeline = Config.fromfile(BASES / base)[part]
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(config(tmp_path, pipeline=pipeline, **changes))


def test_isda_augmentation_gives_sizes_of_the_recipe_and_no_empty_mask(tmp_path):
    dataset = _build(tmp_path, 'coco_instance.py')
    set_random_seed(0)
    sides = set()
    for _ in range(12):
        sample = dataset[0]
        instances = sample['data_samples'].gt_instances
        height, width = sample['inputs'].shape[1:]
        assert instances.masks.masks.shape[1:] == (height, width)
        assert instances.masks.areas.min() > 0
        sides.add(min(height, width) if max(height, width) < 1333 else 0)
    assert sides - {0} <= set(range(480, 801, 32))
    assert len(sides) > 3


def test_the_same_seed_gives_the_same_sample(tmp_path):
    dataset = _build(tmp_path, 'coco_instance.py')
    images = []
    for _ in range(2):
        set_random_seed(3)
        images.append(dataset[0]['inputs'])
    assert torch.equal(*images)


@pytest.mark.parametrize('base', ['coco_instance.py', 'sample_instance.py'])
def test_test_pipelines_keep_what_a_prediction_needs(tmp_path, base):
    dataset = _build(tmp_path, base, 'test_pipeline', test_mode=True)
    meta = dataset[0]['data_samples'].metainfo
    assert meta['ori_shape'] == (48, 64)
    assert meta['img_id'] == 10
    expected = (800, 1067) if base.startswith('coco') else (48, 64)
    assert meta['img_shape'] == expected


def test_every_base_reads_and_names_one_data_root():
    for path in sorted(BASES.glob('*_instance*.py')):
        cfg = Config.fromfile(path)
        inner = cfg.train_dataloader.dataset.get('dataset', cfg.train_dataloader.dataset)
        assert inner.data_root == cfg.data_root
        assert cfg.val_dataloader.dataset.data_root == cfg.data_root
        assert not cfg.train_dataloader.pin_memory
