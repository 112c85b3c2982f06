# With ResNet-101, the default of the released program; it trains on frames of 280 pixels, at most
# 504, where ResNet-50 has 300 and 540.
_base_ = ['./defvistr_r50_4xb1-60e_youtube-vis-2019.py']

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
