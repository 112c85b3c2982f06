# A small SOTR for the built-in sample: random weights, two CPU cores. Every part of the full model
# is there, each smaller; the ranges of sizes are a quarter of the published ones, as the images
# are, and the batch statistics of the backbone are trained because there are no pretrained ones.
_base_ = [
    '../_base_/datasets/sample_instance.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
# An interrupted run goes on from near where it stopped.
default_hooks = dict(checkpoint=dict(interval=150))

channels = 64

model = dict(
    type='isda_suite.SOTR',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=channels, num_outs=5),
    mask_head=dict(
        type='isda_suite.SOTRHead',
        num_classes=5,
        in_channels=channels,
        # Here only the smallest area of a mask, in pixels of the mask feature.
        strides=[4, 4, 8, 8, 16],
        scale_ranges=((1, 24), (12, 48), (24, 96), (48, 192), (96, 512)),
        num_grids=[20, 16, 12, 10, 8],
        transformer=dict(depth=3, num_heads=4, duplicate='none'),
        mask_feature_head=dict(
            feat_channels=64,
            start_level=0,
            end_level=3,
            out_channels=channels,
            mask_stride=4,
            norm_cfg=dict(type='GN', num_groups=16),
        ),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, eps=1e-3, loss_weight=3.0),
    ),
    test_cfg=dict(
        nms_pre=500,
        score_thr=0.1,
        mask_thr=0.5,
        filter_thr=0.05,
        kernel='gaussian',
        sigma=2.0,
        max_per_img=100,
    ),
)
