# ISDNet with a caffe-style ResNet-50 on images of two classes in Inria's layout, on a CPU. Set
# `data_root`, the names of the classes and model.backbone.init_cfg.checkpoint. Images are enlarged
# twice: the deep branch sees a quarter, in which narrow things of few pixels would vanish.
_base_ = ['./isdnet_r50_custom_deepglobe.py']

data_root = 'data/inria_tiles/'
metainfo = dict(classes=('background', 'object'), palette=[[0, 0, 0], [255, 255, 255]])
crop_size = (512, 512)

counts = dict(num_classes=2)
model = dict(decode_head=counts, auxiliary_head=counts, refine_head=counts)
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.98),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PhotoMetricDistortion'),
    dict(type='isda_suite.PackSegInputs'),
]
test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(1280, 1280), keep_ratio=True),
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='isda_suite.PackSegInputs'),
]
images = dict(
    _delete_=True, type='isda_suite.InriaAerialDataset', data_root=data_root, metainfo=metainfo
)
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='imgs/train', seg_map_path='labels/train'),
        pipeline=train_pipeline,
        **images,
    )
)
val_dataloader = dict(
    dataset=dict(
        test_mode=True,
        data_prefix=dict(img_path='imgs/val', seg_map_path='labels/val'),
        pipeline=test_pipeline,
        **images,
    )
)
test_dataloader = val_dataloader
