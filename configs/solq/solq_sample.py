# A small SOLQ for the built-in sample: random weights, two CPU cores. Every part of the full model
# is there, each smaller; the batch statistics of the backbone are trained because there are no
# pretrained ones.
_base_ = [
    '../_base_/datasets/sample_instance.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
# An interrupted run goes on from near where it stopped.
default_hooks = dict(checkpoint=dict(interval=150))

embed_dims = 128
num_heads = 4
num_levels = 4
ffn_cfg = dict(embed_dims=embed_dims, feedforward_channels=256, ffn_drop=0.0)
deformable_cfg = dict(
    embed_dims=embed_dims,
    num_heads=num_heads,
    num_levels=num_levels,
    num_points=4,
    dropout=0.0,
    batch_first=True,
)

model = dict(
    type='isda_suite.SOLQ',
    num_queries=100,
    num_feature_levels=num_levels,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[64, 128, 256],
        kernel_size=1,
        out_channels=embed_dims,
        norm_cfg=dict(type='GN', num_groups=16),
        act_cfg=None,
        bias=True,
        num_outs=num_levels,
    ),
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=deformable_cfg, ffn_cfg=ffn_cfg)),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=embed_dims, num_heads=num_heads, batch_first=True),
            cross_attn_cfg=deformable_cfg,
            ffn_cfg=ffn_cfg,
        ),
    ),
    positional_encoding=dict(num_feats=embed_dims // 2, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='isda_suite.SOLQHead',
        num_classes=5,
        embed_dims=embed_dims,
        vector_hidden_dims=256,
        # Objects are small here: 36 coefficients of 64 x 64 cells show their shapes.
        mask_coder=dict(type='isda_suite.DCTMaskCoder', size=64, keep=36),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        loss_vector=dict(type='L1Loss', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100, mask_thr=0.5),
)
