# A small SOLOv2 without IUQ on any data set in COCO format: set `data_root`, here or with
# --cfg-options data_root=... It holds annotations/instances_{train,val}.json, train/ and val/. The
# classes are those of the json. Made for small sets on two CPU cores, from random weights: images
# of 384 pixels, 2 a step, counted in iterations. Longer than a variant should be, because it
# replaces model, data, schedule and loop.
_base_ = [
    '../_base_/models/solov2_r50.py',
    '../_base_/datasets/coco_multiscale.py',
    '../_base_/schedules/sgd_36e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

data_root = 'data/custom/'
scale = (384, 384)  # the longer side at most, ratio kept
max_iters = 1200

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
        num_classes='from_data',
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=16),
        mask_feature_head=dict(
            feat_channels=64, out_channels=64, norm_cfg=dict(type='GN', num_groups=16)
        ),
    ),
)

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25], direction=['horizontal', 'vertical']),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
# From random weights: one rate for all parameters.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=max_iters // 4),
    logger=dict(interval=20, log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False, window_size=20)
auto_scale_lr = dict(base_batch_size=2)
