"""A tiny ISDA with IUQ and data for it, to run the real tools in seconds."""

import json

import pytest

from isda_suite.datasets.sample import write_sample_coco
from isda_suite.datasets.scene import SceneStatistics
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs/isda/isda_sample.py'
PLAIN = """
_base_ = [{base!r}]
model = dict(num_queries=10, encoder=dict(num_layers=1), decoder=dict(num_layers=2),
             backbone=dict(base_channels=8, norm_eval=True),
             neck=dict(in_channels=[8, 16, 32, 64]))
train_cfg = dict(max_iters=3, val_interval=10)
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False,
                        sampler=dict(type='DefaultSampler', shuffle=False), batch_sampler=None,
                        dataset=dict(data_root={data!r}, ann_file={ann_file!r},
                                     filter_cfg=dict(filter_empty_gt=False)))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
"""
WITH_IUQ = """
_base_ = [{base!r}]
model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{{{_base_.model}}}},
             memory=dict(min_fill=1))
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    stats = SceneStatistics(short_side=64, long_sides=(64,), diameter=(14.0, 40.0))
    return write_sample_coco(
        tmp_path_factory.mktemp('data') / 'sample', 4, 2, stats=stats, progress=False
    )


@pytest.fixture(scope='module')
def config(data, tmp_path_factory):
    """Every second image has no instance, so that the second of two ranks sees none."""
    folder = tmp_path_factory.mktemp('config')
    content = json.loads((data / 'annotations/instances_train.json').read_text())
    kept = {image['id'] for image in content['images'][::2]}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    thinned = folder / 'thinned.json'
    thinned.write_text(json.dumps(content))
    plain, wrapped = folder / 'plain.py', folder / 'iuq_tiny.py'
    plain.write_text(PLAIN.format(base=str(CONFIG), data=f'{data}/', ann_file=str(thinned)))
    wrapped.write_text(WITH_IUQ.format(base=str(plain)))
    return wrapped
