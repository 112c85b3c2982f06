# With ResNet-101, the default of the released program: frames of 280 pixels, at most 504, in training.
_base_ = ['./defvistr_r50_4xb1-60e_youtube-vis-2019.py']

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')),
)
