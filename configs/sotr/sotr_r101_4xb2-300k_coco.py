# ResNet-101, trained and tested at smaller sizes than ResNet-50, as published.
_base_ = ['./sotr_r50_4xb2-300k_coco.py']

pretrained = dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe')
model = dict(backbone=dict(depth=101, init_cfg=pretrained))
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(
        type='RandomChoiceResize', scales=[(i, 1333) for i in range(640, 801, 32)], keep_ratio=True
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
test_pipeline = [dict(type='isda_suite.LoadImage'), resize, {{_base_.packing}}]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
