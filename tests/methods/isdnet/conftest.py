"""A tiny ISDNet on fake DeepGlobe data, to run the real tools in seconds."""

import pytest

from isda_suite.resources import resource_root
from tests.data.deepglobe_fake.make import make

CONFIG = resource_root() / 'configs/isdnet/isdnet_1224x1224_80k_deepglobe.py'
TEXT = """
_base_ = [{base!r}]
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(base_channels=4, stem_channels=4, init_cfg=None),
    decode_head=dict(in_channels=32, channels=16),
    auxiliary_head=dict(in_channels=16, channels=8),
    shallow_branch=dict(channels=(8, 8, 16, 16), init_cfg=None),
    refine_head=dict(shallow_channels=(16, 16), deep_channels=16, channels=16, num_groups=4))
train_cfg = dict(max_iters=2, val_interval=2)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=2, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomCrop', crop_size=(32, 32)),
    dict(type='isda_suite.PackSegInputs'),
]
here = dict(data_root={data!r})
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(pipeline=train_pipeline, **here))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=here)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=here)
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp('data') / 'deepglobe', parts=('train', 'val', 'test'))


@pytest.fixture(scope='module')
def config(data, tmp_path_factory):
    file = tmp_path_factory.mktemp('config') / 'isdnet_tiny.py'
    file.write_text(TEXT.format(base=str(CONFIG), data=f'{data}/'))
    return file
