# Cityscapes, 4 GPUs x 2 images; the recipe is ours, for the original releases none.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/isdnet_80k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=4000))
sync_bn = 'torch'

classes = dict(num_classes=19)
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=classes,
    auxiliary_head=classes,
    refine_head=classes,
)
