# SOLOv2 with a caffe-style ResNet-50 (BGR, the stride in the 1x1 convolution), without IUQ, on any
# data set in COCO format: as the small one, but for a pretrained backbone. Set `data_root`
# and model.backbone.init_cfg.checkpoint, a state dict with the names of mmdet's
# ResNet(style='caffe').
_base_ = ['./iuq_solov2-r18-plain_custom_coco.py']

max_iters = 360

model = dict(
    data_preprocessor=dict(mean=[103.939, 116.779, 123.68], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        depth=50,
        base_channels=64,
        frozen_stages=1,
        norm_eval=True,
        style='caffe',
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='r50_caffe.pth'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=128),
    mask_head=dict(
        in_channels=128,
        feat_channels=128,
        mask_feature_head=dict(feat_channels=128, out_channels=128),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4), paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)})
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 4))
