# YouTube-VIS 2019 with the augmentation of VisTR and DefVisTR (arXiv:2203.06318): the same flip,
# sizes and crop for all 36 frames of a clip, colours frame by frame. The end of the clip is drawn
# anew in every epoch; the original draws it once (mode='once').
dataset_type = 'isda_suite.YouTubeVISInstanceDataset'
data_root = 'data/youtube_vis_2019/'
num_frames = 36
# fmt: off
classes = (
    'person', 'giant_panda', 'lizard', 'parrot', 'skateboard', 'sedan', 'ape', 'dog', 'snake',
    'monkey', 'hand', 'rabbit', 'duck', 'cat', 'cow', 'fish', 'train', 'horse', 'turtle',
    'bear', 'motorbike', 'giraffe', 'leopard', 'fox', 'deer', 'owl', 'surfboard', 'airplane',
    'truck', 'zebra', 'tiger', 'elephant', 'snowboard', 'boat', 'shark', 'mouse', 'frog',
    'eagle', 'earless_seal', 'tennis_racket',
)
# fmt: on
metainfo = dict(classes=classes)

first_sizes = dict(
    type='RandomChoiceResize',
    scales=[(side, 800) for side in range(480, 769, 32)],
    resize_type='isda_suite.ResizeShortSide',
)
sizes_before_crop = dict(
    type='RandomChoiceResize',
    scales=[400, 500, 600],
    resize_type='isda_suite.ResizeShortSide',
)

train_pipeline = [
    dict(type='isda_suite.SampleClip', num_frames=num_frames),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='isda_suite.LoadImage'),
            dict(type='isda_suite.LoadClipAnnotations'),
            dict(type='RandomFlip', prob=0.5),
            first_sizes,
        ],
    ),
    dict(type='TransformBroadcaster', transforms=[dict(type='isda_suite.PhotoMetricDistortion')]),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            sizes_before_crop,
            dict(type='isda_suite.RandomCropKeepingAll', crop_size=(384, 600)),
            dict(type='isda_suite.ResizeShortSide', scale=(300, 540)),
        ],
    ),
    dict(type='isda_suite.PackClipInputs'),
]
# As published: in tests the longer side has no limit.
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='isda_suite.LoadImage'),
            dict(type='isda_suite.ResizeShortSide', scale=300),
        ],
    ),
    dict(type='isda_suite.PackClipInputs'),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
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
# The official validation set has no annotations: results go to its server. For numbers of your own
# hold out a part of train (tools/misc/hold_out.py) and name its file and train/JPEGImages here.
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
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
        overlap=6,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The ground truth is the annotation file of the evaluated data set unless `ann_file` is given.
val_evaluator = dict(type='isda_suite.YouTubeVISMetric')
test_evaluator = val_evaluator
