"""What a checkpoint remembers of the run that wrote it, and how that differs from another run."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from isda_suite.engine.errors import ConfigError

RECORD = 'isda_suite_run'
_REFUSED = ('model.', 'optim_wrapper.')
# Differ from run to run without changing what is computed. Weights that a model starts from have
# been overwritten by the time a run is resumed.
_IGNORED = (
    'work_dir',
    'load_from',
    'resume',
    'launcher',
    'env_cfg',
    'model_wrapper_cfg',
    'experiment_name',
    'default_hooks.checkpoint_fit',
)
_IGNORED_PARTS = ('init_cfg', 'pretrained')
_SHOWN = 20


def record(cfg: Mapping[str, Any], world_size: int, batch_size: int) -> dict[str, Any]:
    """Return what is written into a checkpoint: plain numbers and text, nothing that is executed.

    Args:
        cfg: The configuration of the run.
        world_size: Number of processes.
        batch_size: Images a step of one process.
    """
    return {
        'world_size': world_size,
        'batch_size': batch_size,
        'config': _as_json(cfg),
    }


def config_changes(saved: Mapping[str, Any], cfg: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Compare the configuration in a record with another one.

    Args:
        saved: From :func:`record`.
        cfg: The configuration of the run that resumes.

    Returns:
        Dotted key to (value in the checkpoint, value now), as text; ``'-'`` where there is none.
    """
    before = json.loads(saved['config'])
    now = json.loads(_as_json(cfg))
    return {
        key: (_text(before, key), _text(now, key))
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    }


def require_same_config(changes: Mapping[str, tuple[str, str]], allowed: bool) -> str:
    """Refuse changes of the model or the optimizer.

    Args:
        changes: From :func:`config_changes`.
        allowed: The user has said that it is meant (``--allow-config-change``).

    Returns:
        The changes as a table for the log; empty without any.

    Raises:
        ConfigError: with the same table.
    """
    if not changes:
        return ''
    rows = [f'  {key}: {old} -> {new}' for key, (old, new) in changes.items()]
    if len(rows) > _SHOWN:
        rows = [*rows[:_SHOWN], f'  ... and {len(rows) - _SHOWN} more']
    table = '\n'.join(['the configuration differs from that of the checkpoint:', *rows])
    refused = [key for key in changes if key.startswith(_REFUSED)]
    if refused and not allowed:
        raise ConfigError(
            f'{table}\nA run is resumed with the model and the optimizer it was started with; '
            'give --allow-config-change if this is meant, or start a new run from these weights '
            'with load_from'
        )
    return table


def require_same_size(
    saved: Mapping[str, Any], world_size: int, batch_size: int, allowed: bool
) -> float:
    """Refuse another number of images a step.

    Args:
        saved: From :func:`record`.
        world_size: Number of processes now.
        batch_size: Images a step of one process now.
        allowed: The user has said that it is meant (``--allow-world-size-change``).

    Returns:
        By how much a step has grown: images now over images then.

    Raises:
        ConfigError: naming both sizes.
    """
    then = saved['world_size'], saved['batch_size']
    if then == (world_size, batch_size):
        return 1.0
    sizes = (
        f'the checkpoint was written by {then[0]} processes of {then[1]} images each, this run '
        f'has {world_size} of {batch_size}'
    )
    if not allowed:
        raise ConfigError(
            f'{sizes}: the learning rate and the order of the data would silently be others. '
            'Start as many processes as before, or give --allow-world-size-change, which scales '
            'the learning rate with the images a step'
        )
    return world_size * batch_size / (then[0] * then[1])


def _as_json(cfg: Mapping[str, Any]) -> str:
    return json.dumps(dict(_flatten(cfg)), default=repr)


def _flatten(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            name = f'{prefix}{key}'
            if name not in _IGNORED and str(key) not in _IGNORED_PARTS:
                yield from _flatten(inner, f'{name}.')
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f'{prefix}{index}.')
    else:
        yield prefix.rstrip('.'), list(value) if isinstance(value, tuple) else value


def _text(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else '-'
