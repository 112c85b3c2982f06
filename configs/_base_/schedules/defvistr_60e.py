# The recipe of DefVisTR (arXiv:2203.06318) as released: 4 clips a step, no warm-up, one rate for
# all but the backbone, weight decay on everything. The labels of the official validation videos
# are not public, so nothing is validated on the way (docs/defvistr.md: how to hold videos out).
max_epochs = 60

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
val_cfg = None
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[40], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
