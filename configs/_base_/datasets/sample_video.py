# The generated videos (isda_suite.datasets.sample_video): small frames, so nothing is resized.
# Clips of 8 frames: half of the videos are shorter, half are longer. Shapes have no upright side,
# so all flips are allowed. For runs counted in iterations.
dataset_type = 'isda_suite.YouTubeVISInstanceDataset'
data_root = 'data/sample_video/'
metainfo = dict(classes=('disk', 'box', 'star', 'triangle'))
num_frames = 8

train_pipeline = [
    dict(type='isda_suite.SampleClip', num_frames=num_frames),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='isda_suite.LoadImage'),
            dict(type='isda_suite.LoadClipAnnotations'),
            dict(
                type='RandomFlip',
                prob=[0.25, 0.25, 0.25],
                direction=['horizontal', 'vertical', 'diagonal'],
            ),
        ],
    ),
    dict(type='isda_suite.PackClipInputs'),
]
test_pipeline = [
    dict(type='TransformBroadcaster', transforms=[dict(type='isda_suite.LoadImage')]),
    dict(type='isda_suite.PackClipInputs'),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
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
    sampler=dict(type='isda_suite.VideoSampler'),
    dataset=dict(
        type='isda_suite.YouTubeVISClipDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        clip_len=num_frames,
        overlap=4,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The ground truth is the annotation file of the evaluated data set unless `ann_file` is given.
val_evaluator = dict(type='isda_suite.YouTubeVISMetric')
test_evaluator = val_evaluator
