# The 42-epoch recipe without its last six epochs, in which the rate is 1e-7 and less.
_base_ = './isda_42e.py'

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[27, 33], gamma=0.1)
]
