# The recipe of ISDNet (CVPR 2022) as released: SGD, 8 images a step, no warm-up. (The paper says a
# rate of 0.001; the authors say that the code counts.)
max_iters = 80000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=max_iters, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
