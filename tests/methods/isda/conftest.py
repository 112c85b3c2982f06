"""A tiny ISDA and data for it, to run the real tools in seconds."""

import pytest

from isda_suite.datasets.sample import write_sample_coco
from isda_suite.datasets.scene import SceneStatistics
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs/isda/isda_sample.py'
TEXT = """
_base_ = [{base!r}]
model = dict(num_queries=10, encoder=dict(num_layers=1), decoder=dict(num_layers=2),
             backbone=dict(base_channels=8, norm_eval=True),
             neck=dict(in_channels=[8, 16, 32, 64]))
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root={data!r}))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    stats = SceneStatistics(short_side=64, long_sides=(64,), diameter=(14.0, 40.0))
    return write_sample_coco(
        tmp_path_factory.mktemp('data') / 'sample', 4, 2, stats=stats, progress=False
    )


@pytest.fixture(scope='module')
def config(data, tmp_path_factory):
    file = tmp_path_factory.mktemp('config') / 'isda_tiny.py'
    file.write_text(TEXT.format(base=str(CONFIG), data=f'{data}/'))
    return file
