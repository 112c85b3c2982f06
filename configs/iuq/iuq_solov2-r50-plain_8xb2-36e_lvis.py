# SOLOv2 R-50 without IUQ on LVIS v1: 1203 classes, rare ones repeated (`pip install lvis`).
_base_ = [
    '../_base_/models/solov2_r50.py',
    '../_base_/datasets/lvis_multiscale.py',
    '../_base_/schedules/sgd_36e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

model = dict(mask_head=dict(num_classes=1203), test_cfg=dict(max_per_img=300))
