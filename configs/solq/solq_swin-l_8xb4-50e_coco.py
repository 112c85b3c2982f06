# Swin-L (ImageNet-22k), short sides 416 to 1088. Published are these sizes and the result; the step
# between sizes, the drop path rate and the optimizer, those of ResNet-50, are this suite's choice.
_base_ = ['./solq_r50_8xb4-50e_coco.py']

url = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth'
swin = dict(type='SwinTransformer', convert_weights=True, pretrain_img_size=384, drop_path_rate=0.2)
shape = dict(embed_dims=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=12)
more = dict(out_indices=(1, 2, 3), init_cfg=dict(type='Pretrained', checkpoint=url))
model = dict(
    backbone=dict(_delete_=True, **swin, **shape, **more), neck=dict(in_channels=[384, 768, 1536])
)
sides = [(side, 1333) for side in range(416, 1089, 32)]
resize = dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)
cropped = [{{_base_.resize_before_crop}}, {{_base_.crop}}, resize]
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], cropped]),
    dict(type='isda_suite.DropEmptyMasks', reject_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
