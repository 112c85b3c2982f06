# DefVisTR on any videos in YouTube-VIS format: set `data_root`, here or with --cfg-options
# data_root=... Which files it holds: configs/_base_/datasets/youtube_vis_custom.py. The classes are
# those of the json. Made for small sets on one device (docs/experiments.md): clips of 6 frames, one
# a step, half of the layers, counted in iterations; longer videos are linked from clips. Longer
# than a variant should be, because it replaces sizes, pipelines, schedule and loop.
_base_ = [
    '../_base_/models/defvistr_r50.py',
    '../_base_/datasets/youtube_vis_custom.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

data_root = 'data/custom/'
num_frames = 6
scale = (112, 200)  # of the shorter side, and at most of the longer one
max_iters = 1800

model = dict(
    num_frames=num_frames,
    num_queries=num_frames,
    num_instances=4,
    transformer=dict(encoder_layers=3, decoder_layers=3, encoder_cp=False, decoder_cp=False),
    head=dict(num_classes='from_data', mask_branch=dict(with_cp=False)),
)

train_pipeline = [
    dict(type='isda_suite.SampleClip', num_frames=num_frames),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='isda_suite.LoadImage'),
            dict(type='isda_suite.LoadClipAnnotations'),
            dict(type='isda_suite.ResizeShortSide', scale=scale),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='isda_suite.PackClipInputs', reject_empty=True),
]
test_pipeline = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='isda_suite.LoadImage'),
            dict(type='isda_suite.ResizeShortSide', scale=scale),
        ],
    ),
    dict(type='isda_suite.PackClipInputs'),
]
train_dataloader = dict(
    num_workers=1,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        clip_len=num_frames,
        overlap=num_frames // 2,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 6))
auto_scale_lr = dict(base_batch_size=1)
