# The published recipe for Inria aerial images, which the original calls 2500x2500 and which crops
# 2000: 4 GPUs x 1 image, 40 000 iterations; one GPU alone needs train_dataloader.batch_size=2.
# Evaluates at full size; isdnet_r18_4xb1-40k_inria-ratio08.py is the published protocol.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/inria_aerial.py',
    '../_base_/schedules/isdnet_80k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(interval=4000))
sync_bn = 'torch'

classes = dict(num_classes=2, out_channels=2)
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=classes,
    auxiliary_head=classes,
    refine_head=classes,
)
max_iters = 40000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=max_iters, by_epoch=False)
]
auto_scale_lr = dict(base_batch_size=4)
