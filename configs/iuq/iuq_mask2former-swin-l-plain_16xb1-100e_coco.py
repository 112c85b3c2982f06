# Mask2Former Swin-L (ImageNet-22k), 200 queries, 100 epochs without IUQ.
_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/coco_jittered.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

url = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth'
swin = dict(
    type='SwinTransformer', mlp_ratio=4, qkv_bias=True, patch_norm=True, convert_weights=True
)
shape = dict(embed_dims=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=12)
pretrained = dict(pretrain_img_size=384, init_cfg=dict(type='Pretrained', checkpoint=url))
model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, **swin, **shape, **pretrained),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
)
no_decay = dict(lr_mult=0.1, decay_mult=0.0)
keys = dict.fromkeys([f'blocks.{i}.norm' for i in range(18)], no_decay)
keys.update({'backbone.norm': no_decay, 'downsample.norm': no_decay, 'patch_embed.norm': no_decay})
keys.update(relative_position_bias_table=no_decay, absolute_pos_embed=no_decay)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=keys))
train_cfg = dict(max_iters=737500)
train_dataloader = dict(batch_size=1)
steps = dict(type='MultiStepLR', begin=0, end=737500, by_epoch=False, gamma=0.1)
param_scheduler = [dict(milestones=[655556, 710184], **steps)]
