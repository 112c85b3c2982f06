# The recipe of SOTR (arXiv:2108.06747) as released: SGD, 8 images a step, about 20 epochs of COCO;
# goes with ../iteration_runtime.py.
max_iters = 300000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=15000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=1000, by_epoch=False),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[210000, 250000],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
