# Mask2Former R-50 without IUQ on LVIS v1: 1203 classes, rare ones repeated (`pip install lvis`).
# 300 queries, as an image has up to 300 detections; the number of steps is that of COCO.
_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/lvis_jittered.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

num_classes = 1203
model = dict(
    panoptic_head=dict(
        num_things_classes=num_classes,
        num_queries=300,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
    test_cfg=dict(max_per_image=300),
)
