"""A tiny configuration of mmseg's stock segmentor for data in DeepGlobe's layout.

Configurations written by `write_config` import this module by name.
"""

from pathlib import Path

from mmengine.registry import MODELS
from torch import nn

_CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['isda_suite', 'tests.engine.toy_segmentor'],
                      allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[90.0] * 3, std=[60.0] * 3, bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size_divisor=16, test_cfg=dict(size_divisor=16)),
    backbone=dict(type='ToyStem', channels=8),
    decode_head=dict(
        type='FCNHead', in_channels=8, in_index=0, channels=8, num_convs=1, concat_input=False,
        num_classes=7, loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomCrop', crop_size=(32, 32)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='PackSegInputs'),
]
data = dict(type='isda_suite.DeepGlobeDataset', data_root='{data}')
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=False),
    dataset=dict(**data, pipeline=train_pipeline,
                 data_prefix=dict(img_path='img_dir/train', seg_map_path='rgb2id/train')))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, pipeline=test_pipeline, test_mode=True,
                 data_prefix=dict(img_path='img_dir/val', seg_map_path='rgb2id/val')))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[])
log_processor = dict(type='LogProcessor', by_epoch=False, window_size=1)
randomness = dict(seed=0)
"""


def write_config(folder, data, extra=''):
    """Write a configuration that trains on the data of `deepglobe_fake`."""
    path = Path(folder) / 'toy_segmentor.py'
    path.write_text(_CONFIG.replace('{data}', str(data)) + extra)
    return path


@MODELS.register_module()
class ToyStem(nn.Module):
    """One convolution, four times smaller."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 4, stride=4)

    def forward(self, image):
        return (self.conv(image).relu(),)
