# A small ISDNet for the built-in sample: random weights, two CPU cores, some minutes. The data:
# tools/misc/write_sample.py data/sample_semantic --format semantic --num-train 600
# Every part of the full model is there, each smaller. Result: README of this folder.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/sample_semantic.py',
    '../_base_/schedules/sample.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)
# An interrupted run goes on from near where it stopped.
default_hooks = dict(checkpoint=dict(interval=150))

# Nine pixels in ten are background, and a short run would learn nothing else.
classes = dict(num_classes=6, loss_decode=dict(class_weight=[0.1, 1.0, 1.0, 1.0, 1.0, 1.0]))
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    deep_sampling='area',  # objects are small here, and every fourth pixel shows little of them
    backbone=dict(base_channels=16, stem_channels=16, init_cfg=None),
    decode_head=dict(in_channels=128, channels=32, **classes),
    auxiliary_head=dict(in_channels=64, channels=32, **classes),
    shallow_branch=dict(channels=(16, 32, 64, 128), init_cfg=None),
    refine_head=dict(
        shallow_channels=(64, 128),
        deep_channels=32,
        channels=32,
        num_groups=8,
        seg_bn_init='one',  # the published start costs the first few hundred iterations
        **classes,
    ),
)
