# The generated sample (isda_suite.datasets.sample): small images, so nothing is resized.
# Its shapes have no upright side, so all flips are allowed. For runs counted in iterations.
dataset_type = 'isda_suite.CocoInstanceDataset'
data_root = 'data/sample/'
metainfo = dict(classes=('disk', 'box', 'star', 'ring', 'triangle'))

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(
        type='RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal'],
    ),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    # Changes nothing, but notes the scale that mmdet's box-based detectors ask for.
    dict(type='Resize', scale_factor=1.0),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    pin_memory=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The ground truth is the annotation file of the evaluated data set unless `ann_file` is given.
val_evaluator = dict(type='isda_suite.CocoMetric', metric='segm')
test_evaluator = val_evaluator
