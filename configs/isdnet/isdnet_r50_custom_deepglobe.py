# ISDNet with a caffe-style ResNet-50 on small tiles in DeepGlobe's layout, 500 iterations on a CPU.
# Set `data_root` here or with --cfg-options, and model.backbone.init_cfg.checkpoint to a state dict
# with the names of mmdet's ResNet(style='caffe'). The published recipe is for 2448 x 2448 and
# starts the last normalisation near 0 (seg_bn_init='paper'), which costs the first hundreds of
# iterations. Tiles are enlarged, for the deep branch sees a quarter. Longer than a variant should
# be, because it replaces backbone, data and schedule.
_base_ = ['./isdnet_r50_custom_seg.py']

data_root = 'data/deepglobe_tiles/'
crop_size = (512, 512)
max_iters = 500

counts = dict(num_classes=7)
model = dict(
    data_preprocessor=dict(
        size=crop_size, mean=[103.939, 116.779, 123.68], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
    ),
    backbone=dict(
        type='ResNet',
        style='caffe',
        norm_eval=True,
        frozen_stages=1,
        init_cfg=dict(type='Pretrained', checkpoint='r50_caffe.pth'),
    ),
    shallow_branch=dict(init_cfg=None),
    decode_head=counts,
    auxiliary_head=counts,
    refine_head=dict(seg_bn_init='one', **counts),
)
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=16,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=6,
    ),
    dict(type='isda_suite.PackSegInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(768, 768), keep_ratio=True),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='isda_suite.PackSegInputs'),
]
tiles = dict(_delete_=True, type='isda_suite.DeepGlobeDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_prefix=dict(img_path='img_dir/train', seg_map_path='rgb2id/train'),
        pipeline=train_pipeline,
        **tiles,
    ),
)
val_dataloader = dict(
    dataset=dict(
        test_mode=True,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='rgb2id/val'),
        pipeline=test_pipeline,
        **tiles,
    )
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-6, begin=30, end=max_iters, by_epoch=False),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
    clip_grad=dict(max_norm=5.0),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
