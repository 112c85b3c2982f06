# The published recipe without its last six epochs, in which the learning rate is 1e-8 and less.
_base_ = ['./isda_r50_3x_coco.py']

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[27, 33], gamma=0.1)
]
