# COCO 2017 with the plain augmentation of two-stage detectors: the shorter side one of eleven, and
# flips. As in detectron2, pictures are resized by Pillow, which smooths when it shrinks, and
# polygons stay polygons until the loss, so that they are rasterised at the size of the input.
dataset_type = 'isda_suite.CocoInstanceDataset'
data_root = 'data/coco/'

scales = [(side, 1333) for side in range(480, 801, 32)]

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadPolygons'),
    dict(type='RandomChoiceResize', scales=scales, keep_ratio=True, backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True, backend='pillow'),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The ground truth is the annotation file of the evaluated data set unless `ann_file` is given.
val_evaluator = dict(type='isda_suite.CocoMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
