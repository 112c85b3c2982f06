"""Metrics of a configuration that need a package of their own."""

from typing import Any

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.packages import is_installed

#: Class of the metric -> the package it imports when it is made.
PACKAGES = {'LVISMetric': 'lvis'}


def require_metrics(cfg: Any) -> None:
    """Refuse a metric whose package is not installed, before anything else has started.

    Args:
        cfg: A configuration.

    Raises:
        ConfigError: naming what to install.
    """
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(key) or []
        for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
            kind = metric.get('type') if isinstance(metric, dict) else None
            name = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
            package = PACKAGES.get(name)
            if package is not None and not is_installed(package):
                raise ConfigError(
                    f'{key} is {name}, which needs the package {package}: pip install {package}'
                )
