# Mask2Former R-50 without IUQ: what the configuration with IUQ has to be compared with.
_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/coco_jittered.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
