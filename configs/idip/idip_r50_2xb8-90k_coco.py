# IDIP, ResNet-50, the published recipe (ECAI 2023, doi 10.3233/FAIA230485): 2 GPUs x 8 images; the
# learning rate is for 16 images (--auto-scale-lr for others).
_base_ = [
    '../_base_/models/idip_r50.py',
    '../_base_/datasets/coco_instance_resize.py',
    '../_base_/schedules/idip_90k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5000))
