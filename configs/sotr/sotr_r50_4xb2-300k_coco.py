# SOTR, ResNet-50, the published recipe: arXiv:2108.06747. 4 GPUs x 2 images; the learning rate is
# for 8 images (--auto-scale-lr for others).
_base_ = [
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/sotr_300k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5000), logger=dict(interval=50))

channels = 256

model = dict(
    type='isda_suite.SOTR',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],  # BGR, not scaled: the weights come from Caffe
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
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
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=channels, num_outs=5),
    mask_head=dict(
        type='isda_suite.SOTRHead',
        num_classes=80,
        in_channels=channels,
        strides=[8, 8, 16, 32, 32],
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        pos_scale=0.2,
        num_grids=[40, 36, 24, 16, 12],
        transformer=dict(
            depth=12,
            num_heads=8,
            duplicate='width',  # 'none' halves the cost, for training of one's own
            pos_embed='none',  # 'axial': learnt rows and columns, not published
            with_cp=False,
        ),
        mask_feature_head=dict(
            feat_channels=128,
            start_level=0,
            end_level=3,
            out_channels=channels,
            mask_stride=4,
            norm_cfg=dict(type='GN', num_groups=32),
        ),
        mask_avg='targets',  # 'cells': as SOLOv2 of mmdet
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

scales = [(side, 2048) for side in (640, 672, 704, 736, 768, 800, 1024)]
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomChoiceResize', scales=scales, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
packing = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(1333, 1000), keep_ratio=True),
    packing,
]
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # Tiny images are kept, as published: only those without an object are left out.
    dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=1), pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
