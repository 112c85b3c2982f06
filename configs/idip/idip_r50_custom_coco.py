# IDIP with a caffe-style ResNet-50 (BGR, the stride in the 1x1 convolution) on any data set in COCO
# format: set `data_root`, here or with --cfg-options, and model.backbone.init_cfg.checkpoint to a
# state dict with the names of mmdet's ResNet(style='caffe'). The folder holds
# annotations/instances_{train,val}.json, train/ and val/; the classes are those of the json. Made
# for small sets on one device: 2 images a step, counted in iterations; raise `scale` for larger
# objects. Longer than a variant should be, because it replaces backbone, data and schedule.
_base_ = ['./idip_r50_2xb8-90k_coco.py']

data_root = 'data/custom/'
scale = (384, 384)  # the longer side at most, ratio kept
max_iters = 600

model = dict(
    num_proposals=100,
    data_preprocessor=dict(mean=[103.939, 116.779, 123.68], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(style='caffe', init_cfg=dict(type='Pretrained', checkpoint='r50_caffe.pth')),
    roi_head=dict(num_classes='from_data', mask_head=dict(batching='grouped')),
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
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
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
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 4), logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=2)
