# ISDA, ResNet-50, the published recipe: arXiv:2202.12251. 8 GPUs x 1 image; the learning rate is
# for 8 images (--auto-scale-lr for others). 42 epochs, of which the last five change nothing.
_base_ = [
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/isda_42e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

embed_dims = 256
mask_channels = 256
num_levels = 4

model = dict(
    type='isda_suite.ISDA',
    num_queries=300,
    num_feature_levels=num_levels,
    mask_feat_source='neck',  # 'encoder' follows the paper's text instead of its code
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
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[256, 512, 1024, 2048],
        kernel_size=1,
        out_channels=embed_dims,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=num_levels + 1,
    ),
    mask_feat_head=dict(
        type='isda_suite.MaskFeatureBranch',
        in_channels=embed_dims,
        feat_channels=128,
        start_level=0,
        end_level=3,
        out_channels=mask_channels,
        norm_cfg=dict(type='GN', num_groups=32),
    ),
    encoder=dict(
        num_layers=6,
        layer_cfg=dict(
            self_attn_cfg=dict(
                embed_dims=embed_dims,
                num_heads=8,
                num_levels=num_levels,
                num_points=4,
                dropout=0.1,
                batch_first=True,
            ),
            ffn_cfg=dict(embed_dims=embed_dims, feedforward_channels=1024, ffn_drop=0.1),
        ),
    ),
    decoder=dict(
        num_layers=6,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            self_attn_cfg=dict(
                embed_dims=embed_dims,
                num_heads=8,
                attn_drop=0.1,
                dropout_layer=dict(type='Dropout', drop_prob=0.1),
                batch_first=True,
            ),
            cross_attn_cfg=dict(
                embed_dims=embed_dims,
                num_heads=8,
                num_levels=num_levels,
                num_points=4,
                dropout=0.1,
                batch_first=True,
            ),
            ffn_cfg=dict(embed_dims=embed_dims, feedforward_channels=1024, ffn_drop=0.1),
        ),
    ),
    positional_encoding=dict(num_feats=embed_dims // 2, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='isda_suite.ISDAHead',
        num_classes=80,
        embed_dims=embed_dims,
        mask_channels=mask_channels,
        num_kernel_fcs=2,
        position_mode='logit',  # 'none': the ablation without the reference point in the kernel
        target_down='bilinear',  # 'area' keeps objects that bilinear sampling loses
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_mask=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=False,  # the masks come as probabilities
            naive_dice=False,
            eps=1e-3,
            loss_weight=3.0,
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='isda_suite.MaskIoUCost', weight=3.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100, mask_thr=0.5, mask_score='foreground'),
)
