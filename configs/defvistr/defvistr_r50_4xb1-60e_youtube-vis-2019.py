# DefVisTR, ResNet-50, the recipe of the released program: arXiv:2203.06318. 4 GPUs x 1 clip; the
# learning rate is for 4 clips (--auto-scale-lr for others). Training starts from detection weights:
# see docs/defvistr.md for `load_from`.
_base_ = [
    '../_base_/models/defvistr_r50.py',
    '../_base_/datasets/youtube_vis_2019.py',
    '../_base_/schedules/defvistr_60e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=5))
