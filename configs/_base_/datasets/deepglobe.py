# DeepGlobe land cover, 2448 x 2448, in GLNet's split of the labelled images (454, 207, 142), with
# the augmentation of ISDNet (CVPR 2022): no resizing, crops of half a side, rotation by any angle
# between 90 and 270 degrees with black corners that are ignored.
dataset_type = 'isda_suite.DeepGlobeDataset'
data_root = 'data/deepglobe/'
crop_size = (1224, 1224)

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    # dict(type='RandomRotFlip', ...) of mmseg turns by right angles and leaves no corners.
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
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='rgb2id/train'),
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
        data_prefix=dict(img_path='img_dir/val', seg_map_path='rgb2id/val'),
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
        data_prefix=dict(img_path='img_dir/test', seg_map_path='rgb2id/test'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)

# `mIoU_wo_unknown` is the number papers report: "unknown" is trained, and left out of the mean.
val_evaluator = dict(
    type='isda_suite.IoUMetric', iou_metrics=['mIoU', 'mFscore'], left_out='unknown'
)
test_evaluator = val_evaluator
