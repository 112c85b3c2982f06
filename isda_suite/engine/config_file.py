"""Find, read and override a configuration.

A configuration is a program: reading one runs it. YAML alone is read as plain data, and so are the
pickles that it may name.
"""

import argparse
import ast
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.old_options import renamed_words, take_old_dist_params
from isda_suite.engine.plain_files import read_files_as_data
from isda_suite.resources import resource_root

if TYPE_CHECKING:
    from mmengine.config import Config

_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def find_config(name: str | Path) -> Path:
    """Return the file a CONFIG argument stands for.

    Tried in this order: a path; a path below the folder that holds ``configs/``; a path below
    ``configs/``; the bare name of a file anywhere below ``configs/``, with or without ``.py``.

    Args:
        name: What the user wrote.

    Raises:
        ConfigError: if there is no such file, with the nearest names.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        raise ConfigError(f'{name} is a folder; CONFIG must be a file')
    if path.is_file():
        return path
    configs = resource_root() / 'configs'
    for candidate in (configs.parent / path, configs / path):
        for full in (candidate, candidate.with_name(candidate.name + '.py')):
            if full.is_file():
                return full
    shipped = {file.stem: file for file in sorted(configs.rglob('*.py'))}
    if path.parent == Path('.') and path.name.removesuffix('.py') in shipped:
        return shipped[path.name.removesuffix('.py')]
    whole = [name for name, file in shipped.items() if '_base_' not in file.parts]
    near = difflib.get_close_matches(path.name.removesuffix('.py'), whole, n=3, cutoff=0.5)
    nearest = f'the nearest shipped ones are {", ".join(near)}'
    hint = f'; {nearest if near else "`zoo` lists the shipped ones"}'
    raise ConfigError(
        f'there is no configuration {name} (looked in {Path.cwd()} and {configs}){hint}'
    )


def read_config(name: str | Path, options: dict[str, Any] | None = None) -> 'Config':
    """Read a configuration file and what it inherits.

    Args:
        name: As for :func:`find_config`.
        options: As for :func:`apply_options`.

    Raises:
        ConfigError: if the file is missing, of an unknown kind, or fails while it runs, or an
            option has no place in it.
    """
    path = find_config(name)
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f'{path} must end with one of {", ".join(_SUFFIXES)}')
    read_files_as_data()
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:
        raise ConfigError(f'{path} cannot be read: {type(error).__name__}: {error}') from error
    take_old_dist_params(cfg)
    apply_options(cfg, options)
    return cfg


def read_sources(name: str | Path) -> list[tuple[Path, str]]:
    """Return the text of a configuration and of what it inherits, without running any of it.

    Bases are found where ``_base_`` is written out as a text or a list of texts.

    Args:
        name: As for :func:`find_config`.

    Returns:
        Files and their texts, bases first.
    """
    path = find_config(name)
    text = path.read_text(encoding='utf-8')
    sources: list[tuple[Path, str]] = []
    for base in _written_bases(path, text):
        if '::' in base:
            sources.append((Path(base), '(in another package)\n'))
        else:
            sources += read_sources(path.parent / base)
    return [*dict(sources).items(), (path, text)]


def _written_bases(path: Path, text: str) -> list[str]:
    if path.suffix != '.py':
        return []
    try:
        lines = ast.parse(text).body
    except SyntaxError as error:
        raise ConfigError(f'{path}, line {error.lineno}: {error.msg}') from error
    for line in lines:
        names = [getattr(t, 'id', '') for t in line.targets] if isinstance(line, ast.Assign) else []
        if isinstance(line, ast.Assign) and '_base_' in names:
            try:
                value = ast.literal_eval(line.value)
            except ValueError:
                return []
            return [value] if isinstance(value, str) else list(value)
    return []


def parse_options(items: list[str] | None, old: list[str] | None = None) -> dict[str, Any]:
    """Read the ``key=value`` words of ``--cfg-options``.

    Args:
        items: Words of ``--cfg-options``; values are literals, lists as ``[a,b]``.
        old: Words of ``--options``, the name this had in mmdet 2, where the port and back-end of
            a distributed run stood under ``dist_params``.

    Returns:
        Values by dotted key, for :func:`apply_options`.

    Raises:
        ConfigError: if a word has no ``=`` or its value cannot be read.
    """
    for word in [*(old or []), *(items or [])]:
        if '=' not in word:
            raise ConfigError(f'--cfg-options {word}: expected key=value')
    words = [*renamed_words(old or []), *(items or [])]
    if not words:
        return {}
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    try:
        return dict(parser.parse_args(['--options', *words]).options)
    except (RecursionError, AssertionError) as error:  # what mmengine's reader of values ends with
        raise ConfigError(
            f'--cfg-options {" ".join(words)}: a value cannot be read; values are numbers, texts, '
            'lists [a,b] and tuples (a,b) with every bracket closed; of a dict one key at a time '
            'is set, as in a.b.c=value'
        ) from error


def apply_options(cfg: 'Config', options: dict[str, Any] | None) -> None:
    """Set values from ``--cfg-options`` in a configuration.

    ``data_root=FOLDER`` moves every data set that lay in the configuration's ``data_root``.
    Only a value that is there may be changed; ``+key=value`` adds one. A key of the runner that
    the configuration leaves out (``randomness``, ``work_dir``) may be set without the ``+``.

    Args:
        cfg: Changed in place.
        options: Dotted keys and their values; numbers in a key index a list.

    Raises:
        ConfigError: if a key is not there, with the nearest one.
    """
    changes = {}
    for key, value in (options or {}).items():
        name = key.removeprefix('+')
        if not key.startswith('+'):
            _require_key(cfg, name)
        changes[name] = value
    old_root = cfg.get('data_root')
    try:
        cfg.merge_from_dict(changes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f'--cfg-options {" ".join(changes)}: {error}') from error
    if 'data_root' in changes and isinstance(old_root, str) and old_root:
        _move_data(cfg, old_root, str(changes['data_root']))


def _move_data(node: Any, old_root: str, new_root: str) -> None:
    """Let every data set and metric of the old ``data_root`` follow the new one.

    In the file, one variable names them all; by the time options are applied it has been copied.
    """
    for key, value in node.items() if hasattr(node, 'items') else enumerate(node):
        if key in ('data_root', 'ann_file') and isinstance(value, str):
            if value.startswith(old_root):
                node[key] = new_root.rstrip('/') + '/' + value[len(old_root) :].lstrip('/')
        elif isinstance(value, dict | list):
            _move_data(value, old_root, new_root)


def _require_key(cfg: 'Config', dotted: str) -> None:
    from isda_suite.engine.config_checks import RUNNER_KEYS

    parts = dotted.split('.')
    if parts[0] not in cfg and parts[0] in RUNNER_KEYS:
        return
    node: Any = cfg
    for depth, part in enumerate(parts):
        keys = _keys_of(node)
        if part not in keys:
            _refuse_key(dotted, parts[:depth], part, keys, cfg)
        node = node[int(part)] if isinstance(node, list | tuple) else node[part]


def _keys_of(node: Any) -> list[str]:
    if isinstance(node, list | tuple):
        return [str(index) for index in range(len(node))]
    return [str(key) for key in node] if hasattr(node, 'keys') else []


def _refuse_key(dotted: str, parents: list[str], part: str, keys: list[str], cfg: 'Config') -> None:
    from isda_suite.engine.config_checks import RUNNER_KEYS

    place = f'{".".join(parents)} of {cfg.filename}' if parents else str(cfg.filename)
    known = keys if parents else [*keys, *RUNNER_KEYS]
    near = difflib.get_close_matches(part, known, n=1)
    hint = f'; did you mean {".".join([*parents, near[0]])}?' if near else ''
    raise ConfigError(
        f'--cfg-options {dotted}: {place} has no {part!r}{hint} '
        f'(write +{dotted}=… to add a new key)'
    )
