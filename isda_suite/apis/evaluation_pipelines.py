"""Pipelines of test data: whether they load labels, and mirrored views for ``--tta``."""

from collections.abc import Iterator
from typing import Any

from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.type_checks import registered_class

# Base classes by name, so that no library is loaded for data of another kind.
_LABEL_LOADERS = {'LoadAnnotations', 'LoadBiomedicalAnnotation', 'LoadBiomedicalData'}
_LABEL_METRICS = {'IoUMetric', 'SegmentationReport'}
# What a step of anybody else's package loads is not known.
_KNOWN_PACKAGES = {'isda_suite', 'mmcv', 'mmdet', 'mmseg'}
_FLIP_KEYS = ('flip', 'flip_direction')


def require_labels(cfg: Any, part: str) -> None:
    """Refuse metrics that compare class maps with labels where no step loads labels.

    Args:
        cfg: A configuration whose types are checked; they are looked up in the default scope.
        part: ``'val'`` or ``'test'``.

    Raises:
        ConfigError: naming the metrics and the step to add.
    """
    loader, metrics = cfg.get(f'{part}_dataloader'), cfg.get(f'{part}_evaluator') or []
    if loader is None:
        return
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    need = [metric['type'] for metric in metrics if _compares_labels(metric)]
    steps = list(_steps(innermost_dataset(loader.dataset).get('pipeline')))
    if not need or not steps or any(_loads_labels(step) or _is_foreign(step) for step in steps):
        return
    instead = ', or compute nothing with --format-only' if part == 'test' else ''
    raise ConfigError(
        f'{part}_dataloader.dataset.pipeline loads no labels, needed by '
        f"{', '.join(map(str, need))}: add dict(type='isda_suite.LoadSegLabels') before "
        f'{steps[-1]["type"]} (with num_classes=… for data sets of mmseg){instead}'
    )


def mirrored_views(pipeline: Any) -> list[dict[str, Any]]:
    """Make a pipeline that gives each image twice: as it is and mirrored.

    The mirroring comes right before labels are loaded, so that it leaves them as they are:
    predictions are mirrored back before anything is compared.

    Args:
        pipeline: The steps of a test pipeline, of which the last one packs; types are looked up in
            the default scope.
    """
    steps = [dict(step) for step in pipeline]
    loaders = [index for index, step in enumerate(steps) if _loads_labels(step)]
    first = loaders[0] if loaders else len(steps) - 1
    if 'meta_keys' in steps[-1]:
        # By these a model knows what to mirror back.
        steps[-1]['meta_keys'] = tuple(dict.fromkeys((*steps[-1]['meta_keys'], *_FLIP_KEYS)))
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    views = [flips, *([step] for step in steps[first:])]
    return [*steps[:first], dict(type='TestTimeAug', transforms=views)]


def _compares_labels(metric: Any) -> bool:
    compares = _base_names(metric['type'], 'METRICS') & _LABEL_METRICS
    return bool(compares) and not metric.get('format_only')


def _loads_labels(step: Any) -> bool:
    return bool(_base_names(step['type'], 'TRANSFORMS') & _LABEL_LOADERS)


def _is_foreign(step: Any) -> bool:
    found = registered_class(step['type'], 'TRANSFORMS')
    return getattr(found, '__module__', '').partition('.')[0] not in _KNOWN_PACKAGES


def _base_names(kind: Any, registry: str) -> set[str]:
    found = registered_class(kind, registry)
    return {base.__name__ for base in getattr(found, '__mro__', ())}


def _steps(node: Any) -> Iterator[Any]:
    """Yield the steps of a pipeline and those inside of them (``TestTimeAug``)."""
    if isinstance(node, list | tuple):
        for value in node:
            yield from _steps(value)
    elif hasattr(node, 'items'):
        yield node
        yield from _steps(node.get('transforms'))
