# A small DefVisTR for the generated videos: random weights, two CPU cores, some minutes. Every part
# of the released model is there, each smaller; the batch statistics of the backbone are trained
# because there are no pretrained ones. Result: README of this folder.
_base_ = [
    '../_base_/datasets/sample_video.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=150))

num_frames = 8

model = dict(
    type='isda_suite.DefVisTR',
    variant='instance_token',
    num_frames=num_frames,
    num_instances=6,
    num_queries=num_frames,
    query_layout='instance_major',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=1,
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
    transformer=dict(
        in_channels=256,
        embed_dims=192,
        num_heads=4,
        num_points=4,
        feedforward_channels=384,
        encoder_layers=2,
        decoder_layers=3,
        tokens_per_instance=8,
        dropout=0.0,
        encoder_cp=False,
        decoder_cp=False,
    ),
    head=dict(
        type='isda_suite.DefVisTRHead',
        num_classes=4,
        mask_branch=dict(in_channels=(32, 64, 128), num_groups=4, num_clip_groups=2, with_cp=False),
    ),
    train_cfg=dict(assigner=dict(type='isda_suite.SequenceHungarianAssigner')),
    test_cfg=dict(mask_thr=0.5, null_score=0.001, drop_class_zero=True),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=1)
