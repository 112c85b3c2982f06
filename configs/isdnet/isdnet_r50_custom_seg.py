# ISDNet with ResNet-50 on any folder of images and label images of class ids: set `data_root`, here
# or with --cfg-options data_root=..., and write the names of the classes into `metainfo`, in the
# order of their ids. The folder holds images/{train,val}/*.jpg and labels/{train,val}/*.png of the
# same names. One GPU; crops of 512. Longer than a variant should be, because it replaces model,
# data and schedule.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/sample_semantic.py',
    '../_base_/schedules/isdnet_80k.py',
    '../_base_/iteration_runtime.py',
]
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

data_root = 'data/custom/'
# Without palette=[[R, G, B], ...] the colours are random.
metainfo = dict(_delete_=True, classes=('background', 'object'))
img_suffix = '.jpg'
crop_size = (512, 512)
max_iters = 20000

classes = dict(num_classes='from_data')
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        depth=50, init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c')
    ),
    decode_head=dict(in_channels=2048, channels=512, **classes),
    auxiliary_head=dict(in_channels=1024, channels=256, **classes),
    refine_head=dict(deep_channels=512, **classes),  # reduced to 128 before the fusion
)

train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomResize', scale=(2048, 2048), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='isda_suite.PackSegInputs'),
]
dataset = dict(data_root=data_root, metainfo=metainfo, img_suffix=img_suffix)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=max_iters, by_epoch=False)
]
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=4)
