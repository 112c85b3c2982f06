# The recipe of IDIP (ECAI 2023) as released: AdamW with decay on everything, 16 images a step,
# linear warm-up over 1000 iterations, the rate a tenth after 60000 and after 80000 of 90000.
max_iters = 90000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    # 1001, not 1000: the first full rate is that of iteration 1000, as in detectron2.
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1001),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]
randomness = dict(seed=42)
auto_scale_lr = dict(enable=False, base_batch_size=16)
