"""LVIS: images named by their address, without mmdet's package."""

import pytest
from mmengine.config import Config

from isda_suite.datasets import LVISInstanceDataset
from isda_suite.datasets.checks import inspect_dataset
from isda_suite.engine.config_file import read_config
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.metric_packages import PACKAGES, require_metrics
from isda_suite.engine.packages import is_installed
from tests.data.coco_fake.make import config, make


def _like_lvis(content):
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/train/{image.pop("file_name")}'
        image |= {'neg_category_ids': [], 'not_exhaustive_category_ids': []}
    for annotation in content['annotations']:
        annotation.pop('iscrowd', None)


def test_it_reads_what_cocos_reader_reads_under_other_names(tmp_path):
    make(tmp_path, _like_lvis)
    changes = dict(type='isda_suite.LVISInstanceDataset', data_prefix={'img': ''}, metainfo={})
    keys = config(tmp_path, **changes)
    (report,) = inspect_dataset(keys)
    assert report.facts['images'] == 3 and not report.fatal
    keys.pop('type')
    dataset = LVISInstanceDataset(**keys, pipeline=[])
    assert [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))] == [
        str(tmp_path / f'train/{i}.jpg') for i in range(len(dataset))
    ]
    assert dataset.metainfo['classes'] == ('cat', 'dog')


@pytest.mark.parametrize('name', ['isda_r50_8xb1-36e_lvis', 'iuq_solov2-r50_8xb2-36e_lvis'])
def test_the_package_of_the_metric_is_asked_for_at_the_start(name, monkeypatch):
    monkeypatch.setitem(PACKAGES, 'LVISMetric', 'no_such_package')
    with pytest.raises(ConfigError, match=r'val_evaluator is LVISMetric.*pip install no_such'):
        require_metrics(read_config(name))
    require_metrics(Config(dict(val_evaluator=[dict(type='CocoMetric')])))


def test_a_folder_of_the_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / 'wandb_like').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed('wandb_like') and not is_installed('absent_package')
    assert is_installed('json')
