# A small SOLOv2 for the built-in sample, without IUQ: random weights, two CPU cores.
_base_ = [
    '../_base_/models/solov2_r50.py',
    '../_base_/datasets/sample_instance.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
# An interrupted run goes on from near where it stopped.
default_hooks = dict(checkpoint=dict(interval=150))

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    mask_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=16),
        mask_feature_head=dict(
            feat_channels=64, out_channels=64, norm_cfg=dict(type='GN', num_groups=16)
        ),
        # Objects are small here: every level takes smaller ones than in photographs.
        num_grids=[20, 16, 12, 8, 6],
        scale_ranges=((1, 32), (16, 64), (32, 96), (64, 192), (128, 2048)),
    ),
)
