# SOLQ, ResNet-50, the published recipe: arXiv:2106.02351. 8 GPUs x 4 images; the learning rate is
# for 32 images (--auto-scale-lr for others). 80 classes instead of the 91 category ids.
_base_ = [
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/solq_50e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

embed_dims = 384
num_levels = 4
deformable_cfg = dict(
    embed_dims=embed_dims,
    num_heads=8,
    num_levels=num_levels,
    num_points=4,
    dropout=0.1,
    batch_first=True,
)
ffn_cfg = dict(embed_dims=embed_dims, feedforward_channels=1024, ffn_drop=0.1)

model = dict(
    type='isda_suite.SOLQ',
    num_queries=300,
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
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[512, 1024, 2048],
        kernel_size=1,
        out_channels=embed_dims,
        norm_cfg=dict(type='GN', num_groups=32),
        act_cfg=None,
        bias=True,
        num_outs=num_levels,
    ),
    encoder=dict(num_layers=6, layer_cfg=dict(self_attn_cfg=deformable_cfg, ffn_cfg=ffn_cfg)),
    decoder=dict(
        num_layers=6,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            self_attn_cfg=dict(
                embed_dims=embed_dims,
                num_heads=8,
                # Not the old `dropout`: mmcv writes that into the default of all later layers.
                attn_drop=0.1,
                dropout_layer=dict(type='Dropout', drop_prob=0.1),
                batch_first=True,
            ),
            cross_attn_cfg=deformable_cfg,
            ffn_cfg=ffn_cfg,
        ),
    ),
    positional_encoding=dict(num_feats=embed_dims // 2, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='isda_suite.SOLQHead',
        num_classes=80,
        embed_dims=embed_dims,
        vector_hidden_dims=1024,
        mask_coder=dict(type='isda_suite.DCTMaskCoder', size=128, keep=256),
        vector_avg='matches',  # 'objects': as the other terms, a much larger value
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        loss_vector=dict(type='L1Loss', loss_weight=3.0),
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
    # mask_score='foreground': the mean value of a mask counts for its score too.
    test_cfg=dict(max_per_img=100, mask_thr=0.5, mask_score='none'),
)

# As in the data set's file, but images and crops without an object are kept. The published code
# resizes once more before the crop, which only blurs.
scales = [(side, 1333) for side in range(480, 801, 32)]
resize = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
resize_before_crop = dict(
    type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True
)
crop = dict(
    type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True
)
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], [resize_before_crop, crop, resize]]),
    dict(type='isda_suite.DropEmptyMasks', reject_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(filter_cfg=dict(filter_empty_gt=False, min_size=1), pipeline=train_pipeline),
)
