# ResNet-101; not in the paper.
_base_ = ['./isda_r50_8xb1-36e_coco.py']

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
