# YouTube-VIS 2021: another order of classes, videos of up to 84 frames, linked from clips.
_base_ = [
    '../_base_/models/defvistr_r50.py',
    '../_base_/datasets/youtube_vis_2021.py',
    '../_base_/schedules/defvistr_60e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5))
