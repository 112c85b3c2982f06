# ResNet-101, otherwise the same recipe, as published.
_base_ = ['./idip_r50_2xb8-90k_coco.py']

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101.imagenet1k_v2'),
    )
)
