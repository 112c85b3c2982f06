"""A tiny IDIP and data for it, to run the real tools in seconds."""

import pytest

from isda_suite.datasets.sample import write_sample_coco
from isda_suite.datasets.scene import SceneStatistics
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs/idip/idip_sample.py'
TEXT = """
_base_ = [{base!r}]
regions = dict(out_channels=32)
model = dict(num_proposals=10, backbone=dict(base_channels=8, norm_eval=True),
             neck=dict(in_channels=[8, 16, 32], out_channels=32),
             roi_head=dict(num_stages=2, embed_dims=32, feedforward_channels=32, dynamic_channels=8,
                           box_roi_extractor=regions, mask_roi_extractor=regions))
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
    file = tmp_path_factory.mktemp('config') / 'idip_tiny.py'
    file.write_text(TEXT.format(base=str(CONFIG), data=f'{data}/'))
    return file
