# Six epochs more for a trained SOLOv2 R-50, without IUQ. Give the weights with --cfg-options
# load_from=FILE: any checkpoint of the plain model, of mmdet too.
_base_ = [
    '../_base_/models/solov2_r50.py',
    '../_base_/datasets/coco_multiscale.py',
    '../_base_/schedules/sgd_36e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

train_cfg = dict(max_epochs=6)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=6, by_epoch=True, milestones=[4], gamma=0.1),
]
