# Instances of Cityscapes with the schedule of COCO. The original can choose the evaluation of
# Cityscapes but keeps its 80 classes; here they are the eight.
_base_ = [
    '../_base_/models/idip_r50.py',
    '../_base_/datasets/cityscapes_instance.py',
    '../_base_/schedules/idip_90k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5000))

model = dict(roi_head=dict(num_classes=8))
