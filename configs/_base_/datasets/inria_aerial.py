# Inria aerial images, 5000 x 5000, in FCtL's split of the labelled images (126, 27, 27), with the
# augmentation of ISDNet (CVPR 2022): everything at 0.8 of the size, crops of 2000.
dataset_type = 'isda_suite.InriaAerialDataset'
data_root = 'data/inria/'
crop_size = (2000, 2000)
resize = dict(type='Resize', scale=(4000, 4000), keep_ratio=True)  # ratio 0.8

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    resize,
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotate', prob=0.5, degree=(90.0, 270.0), pad_val=0, seg_pad_val=255),
    dict(type='PhotoMetricDistortion'),
    dict(type='isda_suite.PackSegInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='isda_suite.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='imgs/train', seg_map_path='labels/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='imgs/val', seg_map_path='labels/val'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='imgs/test', seg_map_path='labels/test'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)

# `mIoU_wo_background`, the IoU of buildings, is the number papers report.
val_evaluator = dict(
    type='isda_suite.IoUMetric', iou_metrics=['mIoU', 'mFscore'], left_out='background'
)
test_evaluator = val_evaluator
