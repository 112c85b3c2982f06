"""The data configurations of videos: right classes, and pipelines that run on any data."""

import numpy as np
import pytest
from mmdet.datasets import YouTubeVISDataset
from mmengine import Config
from mmengine.registry import DefaultScope

from isda_suite.registry import DATASETS
from isda_suite.resources import resource_root
from tests.data.youtube_vis_fake.make import make

FOLDER = resource_root() / 'configs/_base_/datasets'
SPLITS = ('train', 'val', 'test')


def _config(name):
    return Config.fromfile(FOLDER / f'{name}.py')


@pytest.mark.parametrize('year', ['2019', '2021'])
def test_the_classes_are_those_of_the_release_in_its_order(year, monkeypatch):
    monkeypatch.setattr(YouTubeVISDataset, 'METAINFO', {})
    YouTubeVISDataset.set_dataset_classes(year)
    cfg = _config(f'youtube_vis_{year}')
    for split in SPLITS:
        found = cfg[f'{split}_dataloader'].dataset.metainfo.classes
        assert tuple(found) == YouTubeVISDataset.METAINFO['classes']
        assert cfg[f'{split}_dataloader'].dataset.data_root == f'data/youtube_vis_{year}/'


@pytest.mark.parametrize('name', ['ovis', 'youtube_vis_custom'])
def test_other_data_take_their_classes_from_the_file(name):
    cfg = _config(name)
    for split in SPLITS:
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes is None
        assert dataset.data_root == cfg.data_root


@pytest.fixture(scope='module')
def build(tmp_path_factory):
    """Give a function that builds a split of the custom configuration on the fake data."""
    root = make(tmp_path_factory.mktemp('custom'))

    def build(split):
        dataset = _config('youtube_vis_custom')[f'{split}_dataloader'].dataset
        dataset.data_root = str(root)
        if split == 'val':
            dataset.ann_file, dataset.data_prefix = 'train.json', {'img_path': 'train/JPEGImages'}
        with DefaultScope.overwrite_default_scope('mmdet'):
            return DATASETS.build(dataset)

    return build


def test_training_clips_have_the_sizes_of_the_recipe(build):
    dataset = build('train')
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    np.random.seed(0)
    for index in (0, 1):
        sample = dataset[index]
        frames, channels, height, width = sample['inputs'].shape
        assert (frames, channels) == (36, 3) and sample['inputs'].dtype.itemsize == 1
        assert min(height, width) <= 300 and max(height, width) <= 540
        assert 300 in (height, width) or 540 in (height, width)
        gt = sample['data_samples'].video_data_samples[0].gt_instances
        assert gt.masks.masks.shape[1:] == (height, width)


def test_test_clips_have_no_limit_of_the_longer_side(build):
    sample = build('val')[0]
    assert sample['inputs'].shape == (36, 3, 300, 400)
    assert sample['data_samples'].ori_shape == (48, 64)
