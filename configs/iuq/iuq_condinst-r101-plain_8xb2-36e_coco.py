# CondInst R-101 without IUQ.
_base_ = [
    '../_base_/models/condinst_r50.py',
    '../_base_/datasets/coco_multiscale.py',
    '../_base_/schedules/sgd_36e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
