# SOTR on any data set in COCO format: set `data_root`, here or with --cfg-options data_root=...
# It holds annotations/instances_{train,val}.json, train/ and val/. The classes are those of the
# json. Made for small sets on one device: images of 384 pixels, 2 a step, counted in iterations;
# raise `scale` for larger objects. AdamW instead of the published SGD, which needs many more
# iterations. Longer than a variant should be, because it replaces data, schedule and loop.
_base_ = ['./sotr_r50_4xb2-300k_coco.py']

data_root = 'data/custom/'
scale = (384, 384)  # the longer side at most, ratio kept
max_iters = 1200

# One copy of each map: half the cost, and other weights than the published ones.
model = dict(mask_head=dict(num_classes='from_data', transformer=dict(duplicate='none')))

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

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 4), logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=2)
