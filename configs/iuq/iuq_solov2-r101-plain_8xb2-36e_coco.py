# SOLOv2 R-101 without IUQ.
_base_ = ['./iuq_solov2-r50-plain_8xb2-36e_coco.py']

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
