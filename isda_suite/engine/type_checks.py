"""Unknown types and arguments in a configuration, with the nearest right name."""

import difflib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from isda_suite.engine.errors import ConfigError

# The registry that a part of a configuration is built from, by the key it stands under.
_REGISTRY_OF = {
    'model': 'MODELS',
    'dataset': 'DATASETS',
    'datasets': 'DATASETS',
    'pipeline': 'TRANSFORMS',
    'transforms': 'TRANSFORMS',
    'tta_pipeline': 'TRANSFORMS',
    'sampler': 'DATA_SAMPLERS',
    'batch_sampler': 'DATA_SAMPLERS',
    'collate_fn': 'FUNCTIONS',
    'val_evaluator': 'METRICS',
    'test_evaluator': 'METRICS',
    'default_hooks': 'HOOKS',
    'custom_hooks': 'HOOKS',
    'visualizer': 'VISUALIZERS',
    'vis_backends': 'VISBACKENDS',
    'optim_wrapper': 'OPTIM_WRAPPERS',
    'optimizer': 'OPTIMIZERS',
    'param_scheduler': 'PARAM_SCHEDULERS',
    'log_processor': 'LOG_PROCESSORS',
    'model_wrapper_cfg': 'MODEL_WRAPPERS',
    'model_wrapper': 'MODEL_WRAPPERS',
    'strategy': 'STRATEGIES',
    'init_cfg': 'WEIGHT_INITIALIZERS',
}
# Parts of a model come from several registries, e.g. assigners from TASK_UTILS.
_SEARCHED_TOO = ('MODELS', 'TASK_UTILS', 'WEIGHT_INITIALIZERS', 'TRANSFORMS', 'EVALUATOR')
_LOOPS = ('train_cfg', 'val_cfg', 'test_cfg')
_CHECKED = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'custom_hooks',
    'visualizer',
    'optim_wrapper',
    'param_scheduler',
    'log_processor',
    'model_wrapper_cfg',
    'strategy',
    *_LOOPS,
)
# Dictionaries below these keys name a function or a foreign class, not a registered one.
_FOREIGN = ('nms', 'nms_cfg', 'backend_args', 'collate_fn', 'roi_layer')
_FOREIGN_ENDING = '_trans'
_FOREIGN_TYPES = ('Albu', 'mmdet.Albu')
# Taken out by the builders before a class sees its arguments.
_BUILDER_KEYS = frozenset(
    'type _scope_ priority constructor paramwise_cfg convert_to_iter_based '
    'deformable_groups'.split()  # the last one: mmcv's old name, still taken by its wrapper
)
_NEAR = 0.8


def check_types(cfg: Any) -> None:
    """Check that every ``type`` is registered and no argument is a misspelt one.

    A class may take arguments its signature does not show, so an argument is refused here only
    when the signature has one very like it; :func:`explain_build_error` handles the rest.

    Args:
        cfg: A configuration; its default scope is used for the look-up.

    Raises:
        ConfigError: listing every problem with its place in the configuration.
    """
    from mmengine.registry import DefaultScope

    problems: list[str] = []
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        for key in _CHECKED:
            registry = 'LOOPS' if key in _LOOPS else _REGISTRY_OF.get(key, 'MODELS')
            problems += _problems(cfg.get(key), key, registry)
    if problems:
        name = cfg.filename or 'the configuration'
        raise ConfigError('\n  '.join([f'{name}:', *problems]))


def _problems(node: Any, place: str, registry: str) -> Iterator[str]:
    if isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _problems(value, f'{place}.{index}', registry)
    if not hasattr(node, 'items'):
        return
    kind = node.get('type')
    if isinstance(kind, str) and 'nms' not in kind:  # a function of mmcv.ops
        found = _find(kind, registry)
        if found is None:
            yield _unknown_type(kind, place, registry)
        else:
            yield from _misspelt_arguments(node, found, place)
    if kind in _FOREIGN_TYPES:
        return
    for key, value in node.items():
        if key not in _FOREIGN and not str(key).endswith(_FOREIGN_ENDING):
            # The names of hooks (param_scheduler=dict(type='ParamSchedulerHook')) are free.
            inner = registry if registry == 'HOOKS' else _REGISTRY_OF.get(key, registry)
            yield from _problems(value, f'{place}.{key}', inner)


def _scoped(name: str) -> Any:
    """Return the registry of the current default scope, or the root where that has none."""
    from importlib import import_module

    from mmengine.registry import DefaultScope, root

    current = DefaultScope.get_current_instance()
    scope = current.scope_name if current is not None else 'mmengine'
    import_module(f'{scope}.registry')
    registry = getattr(root, name)
    return registry.children.get(scope, registry)


def registered_class(kind: Any, registry: str) -> Any:
    """Return the class that a ``type`` names, looked up in the default scope.

    Args:
        kind: A name, with or without its scope, or the class itself.
        registry: Name of a registry of mmengine, e.g. ``'DATASETS'``.

    Returns:
        The class; None if none is registered under that name.
    """
    return _scoped(registry).get(kind) if isinstance(kind, str) else kind


def _find(kind: str, registry: str) -> Any:
    for name in (registry, *_SEARCHED_TOO):
        found = _scoped(name).get(kind)
        if found is not None:
            return found
    return None


def _unknown_type(kind: str, place: str, registry: str) -> str:
    scoped = _scoped(registry)
    names = list(scoped.module_dict)
    ancestor = scoped.parent
    while ancestor is not None:
        names += list(ancestor.module_dict)
        for scope, child in ancestor.children.items():
            names += [f'{scope}.{name}' for name in child.module_dict]
        ancestor = ancestor.parent
    near = difflib.get_close_matches(kind, names, n=1)
    if not near:
        # The scope may be all that is missing.
        near = [name for name in names if name.rpartition('.')[2] == kind.rpartition('.')[2]][:1]
    hint = f', did you mean {near[0]!r}?' if near else ''
    return f'{place}.type: {kind!r} is not in the {registry} registry of {scoped.scope!r}{hint}'


def _misspelt_arguments(node: Any, target: Any, place: str) -> Iterator[str]:
    known = arguments_of(target)
    if not known:
        return
    for key in node:
        if key in known or key in _BUILDER_KEYS:
            continue
        near = [name for name in _near(key, known) if name not in node]
        if near:
            name = getattr(target, '__name__', str(target))
            yield f'{place}.{key}: {name} has no argument {key!r}, did you mean {near[0]!r}?'


def _near(key: str, known: list[str]) -> list[str]:
    # Names that differ only in a number are often two real arguments.
    return [
        name
        for name in difflib.get_close_matches(key, known, n=3, cutoff=_NEAR)
        if re.sub(r'\d', '', name) != re.sub(r'\d', '', key)
    ]


def arguments_of(target: Any) -> list[str]:
    """List the argument names of a class or function, those passed on to base classes included.

    Args:
        target: A class or function; anything else gives an empty list.
    """
    if not inspect.isclass(target):
        return list(_parameters(target)[0])
    names: list[str] = []
    for base in target.__mro__:
        if '__init__' not in vars(base):
            continue
        own, passes_on = _parameters(vars(base)['__init__'])
        names += [name for name in own if name != 'self']
        if not passes_on:
            break
    return names


def _parameters(function: Any) -> tuple[list[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], True
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [p.name for p in parameters if p.kind not in variable]
    return names, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


_BAD_ARGUMENT = re.compile(r"(?:([\w.]+)\(\) )?got an unexpected keyword argument '(\w+)'")
_BAD_TYPE = re.compile(r'(\S+) is not in the (\S+)::(.+?) registry')


def explain_build_error(cfg: Any, error: Exception) -> ConfigError | None:
    """Turn what a registry or a constructor raised into a message about the configuration.

    Args:
        cfg: The configuration that was being built.
        error: What was raised.

    Returns:
        The error to raise instead, or None if the error is about something else.
    """
    name = cfg.filename or 'the configuration'
    argument = _BAD_ARGUMENT.search(str(error)) if isinstance(error, TypeError) else None
    if argument:
        function, key = argument.groups()
        places = list(_places_of(cfg, key, ''))
        # Without a place the call came from code, not from this configuration.
        if places:
            return ConfigError(f'{name}: {", ".join(places)}: {_argument_hint(function, key)}')
    unknown = _BAD_TYPE.search(str(error)) if isinstance(error, KeyError) else None
    if unknown:
        kind, scope, registry = unknown.groups()
        return ConfigError(
            f'{name}: type {kind.lstrip(chr(39) + chr(34))!r} is not in the {scope}::{registry} '
            'registry; check its spelling, its scope and custom_imports'
        )
    return None


def _argument_hint(function: str | None, key: str) -> str:
    owner = (function or '').removesuffix('.__init__').rpartition('.')[2]
    target = _class_named(owner)
    known = arguments_of(target) if target is not None else []
    near = difflib.get_close_matches(key, known, n=1)
    hint = f', did you mean {near[0]!r}?' if near else ''
    if not hint and known:
        hint = f'; it takes {", ".join(dict.fromkeys(known))}'
    return f'{owner or "the class built here"} has no argument {key!r}{hint}'


def _class_named(name: str) -> Any:
    from mmengine.registry import root

    if name == 'DataLoader':
        from torch.utils.data import DataLoader

        return DataLoader
    for registry in vars(root).values():
        for found in _all_classes(registry):
            for base in getattr(found, '__mro__', (found,)):
                if getattr(base, '__name__', '') == name:
                    return base
    return None


def _all_classes(registry: Any) -> Iterator[Any]:
    if hasattr(registry, 'module_dict') and not isinstance(registry, type):
        yield from registry.module_dict.values()
        for child in registry.children.values():
            yield from _all_classes(child)


def _places_of(node: Any, key: str, place: str) -> Iterator[str]:
    if hasattr(node, 'items'):
        for name, value in node.items():
            here = f'{place}.{name}'.lstrip('.')
            if name == key:
                yield here
            yield from _places_of(value, key, here)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _places_of(value, key, f'{place}.{index}')
