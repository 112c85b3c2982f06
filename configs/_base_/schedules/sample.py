# A short run counted in iterations, for the built-in sample and other small data sets; goes with
# ../iteration_runtime.py.
max_iters = 900

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# From random weights: one rate for all parameters, much higher than for fine-tuning.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=50, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
