# ISDNet, ResNet-18 and STDC1, on DeepGlobe: the published recipe (CVPR 2022). 4 GPUs x 2 images;
# the learning rate is for 8 images (--auto-scale-lr for others). Evaluates at full size;
# isdnet_r18_4xb2-80k_deepglobe-ratio08.py is the protocol behind the published numbers.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/schedules/isdnet_80k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=4000))
sync_bn = 'torch'  # of all layers, where several GPUs train; some see maps of one pixel

classes = dict(num_classes=7)  # "unknown" is one of them
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=classes,
    auxiliary_head=classes,
    refine_head=classes,
)
