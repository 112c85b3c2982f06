# A small IDIP for the built-in sample: random weights, two CPU cores. Every part of the full model
# is there, each smaller; the batch statistics of the backbone are trained because there are no
# pretrained ones.
_base_ = [
    '../_base_/models/idip_r50.py',
    '../_base_/datasets/sample_instance.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
# An interrupted run goes on from near where it stopped.
default_hooks = dict(checkpoint=dict(interval=150))

embed_dims = 96
# Images are small: the finest map has a stride of 4, and boxes of up to 56 pixels look at it.
regions = dict(out_channels=embed_dims, featmap_strides=[4, 8, 16], finest_scale=28)

model = dict(
    num_proposals=60,
    backbone=dict(
        depth=18,
        base_channels=32,
        out_indices=(0, 1, 2),
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[32, 64, 128], out_channels=embed_dims),
    roi_head=dict(
        num_classes=5,
        num_stages=3,
        embed_dims=embed_dims,
        num_heads=4,
        feedforward_channels=192,
        dynamic_channels=32,
        box_roi_extractor=regions,
        mask_roi_extractor=regions,
        # Groups of two or three objects are too few for the statistics of a BatchNorm.
        mask_head=dict(num_convs=2, norm_cfg=dict(type='GN', num_groups=8), batching='joint'),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
