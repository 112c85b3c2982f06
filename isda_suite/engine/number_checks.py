"""Numbers of a configuration that a run cannot begin with."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from isda_suite.engine.errors import ConfigError

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Key below ``train_cfg`` -> the least value.
_LOOP = {'max_iters': 1, 'max_epochs': 1, 'val_interval': 1, 'val_begin': 0}
_LOADER = {'batch_size': 1, 'num_workers': 0}


def check_numbers(cfg: Any) -> None:
    """Refuse counts and rates that are none: PyTorch would say so late, and without the key.

    Args:
        cfg: A configuration.

    Raises:
        ConfigError: listing every problem with its place in the configuration.
    """
    problems = list(_problems(cfg))
    if problems:
        name = getattr(cfg, 'filename', None) or 'the configuration'
        raise ConfigError('\n  '.join([f'{name}:', *problems]))


def _problems(cfg: Any) -> Iterator[str]:
    yield from _wrong_counts(cfg.get('train_cfg'), 'train_cfg', _LOOP)
    for loader in _LOADERS:
        yield from _wrong_counts(cfg.get(loader), loader, _LOADER)
    wrapper = cfg.get('optim_wrapper')
    optimizer = wrapper.get('optimizer') if hasattr(wrapper, 'get') else None
    if hasattr(optimizer, 'get'):
        for key in ('lr', 'weight_decay'):
            place = f'optim_wrapper.optimizer.{key}'
            yield from _wrong(optimizer, key, place, _is_rate, 'a number from 0 on')


def _wrong_counts(node: Any, place: str, least: dict[str, int]) -> Iterator[str]:
    if hasattr(node, 'get'):
        for key, bound in least.items():
            wanted = f'a whole number from {bound} on'
            yield from _wrong(node, key, f'{place}.{key}', _counts_from(bound), wanted)


def _wrong(
    node: Any, key: str, place: str, is_right: Callable[[Any], bool], wanted: str
) -> Iterator[str]:
    value = node.get(key)
    if value is not None and not is_right(value):
        yield f'{place} must be {wanted}, got {value!r}'


def _counts_from(bound: int) -> Callable[[Any], bool]:
    def is_count(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= bound

    return is_count


def _is_rate(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
