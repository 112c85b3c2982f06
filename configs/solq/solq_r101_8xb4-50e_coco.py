# ResNet-101; the recipe of ResNet-50, as published.
_base_ = ['./solq_r50_8xb4-50e_coco.py']

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
