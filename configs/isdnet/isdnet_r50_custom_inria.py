# ISDNet with a caffe-style ResNet-50 on images of two classes in Inria's layout, 300 iterations on
# a CPU; class 1 is called building, whatever it is. Set `data_root` and
# model.backbone.init_cfg.checkpoint. Images are enlarged twice: the deep branch sees a quarter, in
# which narrow things of few pixels would vanish.
_base_ = ['./isdnet_r50_custom_deepglobe.py']

data_root = 'data/inria_tiles/'
crop_size = (512, 512)
max_iters = 300

# One pixel in seventeen of the set it was tried on is of class 1.
weighed = dict(class_weight=[1.0, 3.0])
head = dict(num_classes=2, loss_decode=weighed)
# The published weight is for pixels of variance 1; here they are grey levels.
recon = dict(loss_weight=0.1 / 57.4**2)
model = dict(decode_head=head, auxiliary_head=head, refine_head=dict(loss_recon=recon, **head))
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
images = dict(_delete_=True, type='isda_suite.InriaAerialDataset', data_root=data_root)
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

train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-6, begin=30, end=max_iters, by_epoch=False),
]
