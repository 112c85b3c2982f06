"""Dashboards that a configuration sends its numbers to: what each needs to be installed."""

from typing import Any

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.packages import is_installed

#: mmengine's class -> the package it imports when it writes for the first time.
DASHBOARDS = {
    'TensorboardVisBackend': 'tensorboard',
    'MLflowVisBackend': 'mlflow',
    'WandbVisBackend': 'wandb',
    'ClearMLVisBackend': 'clearml',
    'AimVisBackend': 'aim',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
}


def require_dashboards(cfg: Any) -> None:
    """Refuse a dashboard whose package is not installed, before anything else has started.

    mmengine would say so when the first value is written.

    Args:
        cfg: A configuration; without a visualizer there are no dashboards.

    Raises:
        ConfigError: naming what to install.
    """
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    for place, backend in enumerate(backends):
        kind = backend.get('type')
        name = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
        if name not in DASHBOARDS:
            continue
        package = DASHBOARDS[name]
        if not is_installed(package):
            raise ConfigError(
                f'visualizer.vis_backends[{place}] is {name}, which needs the package {package}: '
                f'pip install {package}, or take this entry out of vis_backends'
            )


def let_wandb_finish() -> None:
    """Let mmengine's W&B backend end with ``wandb.finish`` where ``wandb.join`` is gone.

    It calls the latter at the end of a run; without this a training that is over would end with a
    traceback.
    """
    from mmengine.visualization import WandbVisBackend

    def close(self: Any) -> None:
        if hasattr(self, '_wandb'):
            end = getattr(self._wandb, 'join', None) or self._wandb.finish
            end()

    WandbVisBackend.close = close
