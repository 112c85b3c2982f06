# OVIS: 25 classes, heavy occlusion, long videos, which are linked from clips.
_base_ = [
    '../_base_/models/defvistr_r50.py',
    '../_base_/datasets/ovis.py',
    '../_base_/schedules/defvistr_60e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5))

model = dict(head=dict(num_classes=25))
