# IDIP with ResNet-50 as published (ECAI 2023, doi 10.3233/FAIA230485), 80 classes, 123.6 million
# parameters.
embed_dims = 256
strides = [8, 16, 32]
# finest_scale: boxes of up to 224 pixels look at the finest map, of up to 448 at the next.
regions = dict(
    type='SingleRoIExtractor',
    out_channels=embed_dims,
    featmap_strides=strides,
    finest_scale=112,
)

model = dict(
    type='isda_suite.IDIP',
    num_proposals=300,
    diffusion=dict(num_steps=1000, signal_scale=1.0),
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
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
        # Which of torchvision's weights the authors took is not known; these are the better ones.
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50.imagenet1k_v2'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[512, 1024, 2048],
        out_channels=embed_dims,
        num_outs=3,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
    ),
    roi_head=dict(
        type='isda_suite.IDIPHead',
        num_classes=80,
        num_stages=6,
        embed_dims=embed_dims,
        num_heads=8,
        feedforward_channels=2048,
        dynamic_channels=64,
        box_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2), **regions
        ),
        mask_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2), **regions
        ),
        mask_head=dict(
            type='isda_suite.IDIPMaskHead',
            num_convs=4,
            with_dynamic=True,  # False: the ablation without dynamic convolution
            norm_cfg=dict(type='BN'),
            batching='loop',  # 'grouped': one call, equal to rounding; 'joint': for SyncBN
        ),
        loss=dict(
            type='isda_suite.IDIPLoss',
            assigner=dict(type='isda_suite.IDIPAssigner', center_size='pred'),
            loss_cls=dict(
                type='FocalLoss',
                use_sigmoid=True,
                alpha=0.25,
                gamma=2.0,
                reduction='sum',
                loss_weight=2.0,
            ),
            loss_bbox=dict(type='L1Loss', reduction='sum', loss_weight=5.0),
            loss_iou=dict(type='GIoULoss', reduction='sum', loss_weight=2.0),
            loss_mask=dict(type='isda_suite.MaskDiceLoss', loss_weight=5.0),
        ),
    ),
    test_cfg=dict(
        num_proposals=None,  # as in training
        sampling_steps=3,
        sampling_type='DDIM',
        deterministic=False,
        ensemble=False,  # True: the predictions of all steps count
        renewal_thr=0.5,
        nms_iou_thr=0.5,
        mask_thr=0.5,
        max_per_img=-1,  # all that suppression leaves
        clip_before_mask=False,  # True keeps masks at the border unsqueezed
        randomness='image',  # 'global': from torch's generator, as published
        seed=0,
    ),
)
