# default_runtime.py for runs that are counted in iterations. The last checkpoint is always saved.
_base_ = './default_runtime.py'

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1000),
    logger=dict(interval=20, log_metric_by_epoch=False),
)
log_processor = dict(window_size=20, by_epoch=False)
