"""Let a configuration take its number of classes from the data: ``num_classes='from_data'``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .dataset_config import innermost_dataset
from .errors import ConfigError
from .type_checks import registered_class

FROM_DATA = 'from_data'


def asks_for_class_count(node: Any) -> bool:
    """Say whether a model configuration holds ``num_classes='from_data'`` anywhere."""
    return next(_places(node), None) is not None


def put_class_count(node: Any, num_classes: int) -> None:
    """Write a number wherever a model configuration says ``num_classes='from_data'``.

    Args:
        node: The model's configuration, changed in place.
        num_classes: Classes without background.
    """
    for place in _places(node):
        place['num_classes'] = num_classes


def settle_class_count(cfg: Any, loaders: list[str]) -> None:
    """Count the classes of the data and write the number into the model's configuration.

    The classes are ``metainfo['classes']`` of the data set where given, else the categories of its
    annotation file, else those of its class (``METAINFO``), as for Cityscapes or DeepGlobe.

    Args:
        cfg: The configuration, changed in place; nothing happens without ``'from_data'`` in it.
        loaders: Names of data loaders, e.g. ``['train_dataloader']``; the first that is there
            counts.

    Raises:
        ConfigError: if no data set tells its classes, or their annotation file is missing.
        DataError: if the annotation file cannot be read.
    """
    if not asks_for_class_count(cfg.model):
        return
    for name in loaders:
        if cfg.get(name) is None:
            continue
        classes = _classes_of(innermost_dataset(cfg[name].dataset), cfg.get('default_scope'))
        if classes:
            put_class_count(cfg.model, len(classes))
            return
    raise ConfigError(
        f"model: num_classes='from_data', but none of {', '.join(loaders)} names its classes, an "
        'annotation file with categories, or a type of data that has its own classes; write the '
        'number instead'
    )


def _classes_of(dataset: Any, scope: str | None) -> list[str]:
    named = (dataset.get('metainfo') or {}).get('classes')
    if named:
        return [named] if isinstance(named, str) else list(named)
    # What ends with .txt lists names of images.
    if str(dataset.get('ann_file') or '.txt').endswith('.txt'):
        return _classes_of_type(dataset.get('type'), scope)
    # The reader of annotations, so that a damaged file gets its message.
    from isda_suite.datasets.checks import annotation_path, category_names

    path = annotation_path(dataset)
    if not path.is_file():
        raise ConfigError(
            f"num_classes='from_data' of the model needs the annotation file {path}, which does "
            f'not exist (working directory {Path.cwd()}): set data_root, or write the number of '
            'classes instead'
        )
    return category_names(path)


def _classes_of_type(kind: Any, scope: str | None) -> list[str]:
    from mmengine.registry import DefaultScope

    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports(), DefaultScope.overwrite_default_scope(scope or 'mmengine'):
        found = registered_class(kind, 'DATASETS')
    return list(getattr(found, 'METAINFO', {}).get('classes') or ())


def _places(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        if node.get('num_classes') == FROM_DATA:
            yield node
        for value in node.values():
            yield from _places(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _places(value)
