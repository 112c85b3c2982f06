"""What is checked in a configuration before anything is built from it.

Everything wrong of one kind is reported at once, with where it stands and what to write instead.
"""

import difflib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.metafile import require_published_content

# What mmengine's runners and our launch module read. Other top-level names of a text
# configuration are variables of its author and do nothing by themselves.
RUNNER_KEYS = frozenset(
    """
    model work_dir train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg
    auto_scale_lr optim_wrapper param_scheduler val_evaluator test_evaluator default_hooks
    custom_hooks data_preprocessor load_from resume launcher env_cfg log_processor log_level
    visualizer default_scope randomness experiment_name custom_imports model_wrapper_cfg sync_bn
    find_unused_parameters activation_checkpointing efficient_conv_bn_eval compile runner_type
    strategy tta_model tta_pipeline patch_mmcv
    """.split()
)
# Variables so usual that their likeness to a key above is no typing error.
_VARIABLES = frozenset(
    """
    train_pipeline test_pipeline val_pipeline vis_backends backend_args dataset_type data_root
    conv_cfg norm_cfg act_cfg tta_cfg optimizer metainfo
    """.split()
)
_LIKENESS = 0.82


def check_keys(cfg: Any) -> None:
    """Refuse top-level keys that look like a misspelt key of the runner.

    Args:
        cfg: A configuration.

    Raises:
        ConfigError: naming every such key and the one that was probably meant.
    """
    wrong = []
    for key in cfg:
        near = _misspelt(str(key))
        if near:
            wrong.append(f'unknown key {key!r}, did you mean {near!r}?')
    if wrong:
        raise ConfigError(
            f'{_name(cfg)}: {"; ".join(wrong)} (a variable of your own needs a name that is '
            'less alike, or one that starts with _)'
        )


def _misspelt(key: str) -> str | None:
    if key.startswith('_') or key in RUNNER_KEYS or key in _VARIABLES:
        return None
    for known in RUNNER_KEYS:
        rest = key.removeprefix(known)
        # val_evaluator_full and model2 extend a known name on purpose.
        extended = rest != key and (rest.isdigit() or rest.startswith('_'))
        if extended or key.endswith(f'_{known}'):
            return None
    for known in sorted(RUNNER_KEYS):
        if sorted(known) == sorted(key):
            return known
    near = difflib.get_close_matches(key, sorted(RUNNER_KEYS), n=1, cutoff=_LIKENESS)
    return near[0] if near else None


def require_parts(cfg: Any, keys: list[str], purpose: str) -> None:
    """Check that a configuration has what a tool needs.

    Args:
        cfg: A configuration.
        keys: Top-level keys that must be there and not None.
        purpose: What they are needed for, as in "training".

    Raises:
        ConfigError: naming the missing ones.
    """
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ConfigError(f'{_name(cfg)} has no {", ".join(missing)}, needed for {purpose}')


def check_work_dir(work_dir: str | Path) -> None:
    """Make the folder for logs and checkpoints and try to write into it.

    Raises:
        ConfigError: if it cannot be made or written, with the reason.
    """
    try:
        os.makedirs(work_dir, exist_ok=True)
        # Permissions alone say too little: root ignores them, a full or read-only disk too.
        with tempfile.NamedTemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f'the work dir {work_dir} cannot be written ({error.strerror}); choose another with '
            '--work-dir'
        ) from error


def check_paths(cfg: Any, loaders: list[str], weights: bool = True, **named: str | None) -> None:
    """Check that every file and folder a run will read exists, and that weights are the right ones.

    Remote addresses (``scheme://``) and data behind a remote file client are left out. Weights
    that the metafile beside the configuration names must have the hash it states.

    Args:
        cfg: A configuration.
        loaders: The data loaders the run uses, e.g. ``['train_dataloader']``.
        weights: Whether the run reads ``load_from`` and the weights named in ``init_cfg``.
        **named: Further checkpoints by the name of their argument; None is skipped.

    Raises:
        ConfigError: listing everything that is missing and the working directory.
        CheckpointError: if weights are not those of the metafile.
    """
    checkpoints = [(name, path) for name, path in named.items() if path]
    if weights:
        if cfg.get('load_from') and cfg.load_from not in named.values():
            checkpoints.append(('load_from', cfg.load_from))
        checkpoints += list(_pretrained(cfg.get('model'), 'model'))
    data: list[tuple[str, str]] = []
    for loader in loaders:
        if cfg.get(loader):
            data += list(_data_paths(cfg[loader].get('dataset'), f'{loader}.dataset'))
    missing = [f'  {name}: {path}' for name, path in checkpoints + data if _is_missing(path)]
    if missing:
        lines = '\n'.join(dict.fromkeys(missing))
        raise ConfigError(
            f'these paths do not exist:\n{lines}\nworking directory: {Path.cwd()}\n'
            'relative paths start there; set the right ones in the configuration or with '
            '--cfg-options'
        )
    require_published_content(cfg, [path for _, path in checkpoints])


def _is_missing(path: str) -> bool:
    return '://' not in path and not os.path.exists(os.path.expanduser(path))


def _pretrained(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if hasattr(node, 'items'):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield f'{place}.checkpoint', node['checkpoint']
        for key, value in node.items():
            yield from _pretrained(value, f'{place}.{key}')
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _pretrained(value, f'{place}.{index}')


def _data_paths(dataset: Any, place: str) -> Iterator[tuple[str, str]]:
    if not hasattr(dataset, 'items') or _is_remote(dataset.get('backend_args')):
        return
    if dataset.get('dataset') is not None:
        yield from _data_paths(dataset['dataset'], f'{place}.dataset')
    for index, part in enumerate(dataset.get('datasets') or []):
        yield from _data_paths(part, f'{place}.datasets.{index}')
    root = dataset.get('data_root') or ''
    if root and _is_missing(root):
        # What lies below is missing with it; one line says enough.
        yield f'{place}.data_root', root
        return
    if dataset.get('ann_file'):
        yield f'{place}.ann_file', _annotation_file(root, dataset)
    prefix = dataset.get('data_prefix') or {}
    parts = {'': prefix} if isinstance(prefix, str) else prefix
    for key, value in parts.items():
        if isinstance(value, str) and value:
            yield f'{place}.data_prefix.{key}'.rstrip('.'), _below(root, value)


def _annotation_file(root: str, dataset: Any) -> str:
    name = str(dataset['ann_file'])
    # Only videos have other official names. The readers that know them load mmdet, which would
    # delay every message about a missing path.
    if 'YouTubeVIS' not in str(dataset.get('type')) or '://' in name:
        return _below(root, name)
    with quiet_imports():
        from isda_suite.datasets.checks import annotation_path

    return str(annotation_path(dataset))


def _below(root: str, path: str) -> str:
    return path if '://' in path else os.path.join(root, path)


def _is_remote(backend_args: Any) -> bool:
    return bool(backend_args) and backend_args.get('backend') != 'local'


def _name(cfg: Any) -> str:
    return str(getattr(cfg, 'filename', None) or 'the configuration')
