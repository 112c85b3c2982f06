"""What data can be evaluated by: the words of ``--eval`` and the metrics behind them."""

import difflib
import os
from typing import Any

from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.type_checks import arguments_of, registered_class

_COCO = {
    word: dict(type='isda_suite.CocoMetric', metric=word) for word in ('segm', 'bbox', 'proposal')
}
_LVIS = {word: dict(type='mmdet.LVISMetric', metric=word) for word in ('segm', 'bbox')}
_SEMANTIC = {
    word: dict(type='isda_suite.IoUMetric', iou_metrics=[word])
    for word in ('mIoU', 'mDice', 'mFscore')
}
_VIDEO = {
    'youtube_vis_ap': dict(
        type='mmdet.YouTubeVISMetric', metric='youtube_vis_ap', format_only=False
    )
}
_VOC = {'mAP': dict(type='mmdet.VOCMetric', metric='mAP', eval_mode='11points')}
# Data sets of ours say it themselves in a class attribute `evaluators`; these are the base
# classes of mmdet and mmseg, by name, so that neither library is loaded for the other's data.
_STOCK: dict[str, dict[str, dict[str, Any]]] = {
    'CocoPanopticDataset': {},
    'CocoDataset': _COCO,
    'LVISV05Dataset': _LVIS,
    'XMLDataset': _VOC,
    'YouTubeVISDataset': _VIDEO,
    'BaseSegDataset': _SEMANTIC,
}


def evaluators_of(dataset: Any) -> dict[str, dict[str, Any]]:
    """Return the words a data set can be evaluated by and the metric of each.

    Args:
        dataset: The configuration of a data set; its type is looked up in the default scope.
    """
    found = registered_class(dataset['type'], 'DATASETS')
    own = getattr(found, 'evaluators', None)
    if own is not None:
        return dict(own)
    for base in getattr(found, '__mro__', ()):
        if base.__name__ in _STOCK:
            return _STOCK[base.__name__]
    return {}


def choose_evaluators(cfg: Any, words: list[str]) -> list[dict[str, Any]]:
    """Return metric configurations for ``--eval`` in place of the configured ones.

    Words of the same metric share one. Where the configuration names the same metric already,
    its other settings (annotation file, limits) stay.

    Args:
        cfg: A configuration with ``test_dataloader``.
        words: What to evaluate, e.g. ``['segm', 'bbox']``.

    Raises:
        ConfigError: if a word does not fit the data, with those that do.
    """
    dataset = innermost_dataset(cfg.test_dataloader.dataset)
    table = evaluators_of(dataset)
    chosen: list[dict[str, Any]] = []
    for word in dict.fromkeys(words):
        if word not in table:
            raise ConfigError(_unfit(word, table, dataset['type']))
        _merge(chosen, dict(table[word]))
    configured = cfg.get('test_evaluator') or []
    configured = configured if isinstance(configured, list | tuple) else [configured]
    return [_complete(metric, list(configured), dataset) for metric in chosen]


def _unfit(word: str, table: dict[str, Any], kind: Any) -> str:
    if not table:
        return (
            f'--eval {word}: nothing is known about evaluating data of type {kind}; set '
            'test_evaluator in the configuration and leave --eval out'
        )
    near = difflib.get_close_matches(word, table, n=1)
    hint = f' (did you mean {near[0]}?)' if near else ''
    return f'--eval {word}: data of type {kind} can be evaluated by {", ".join(table)}{hint}'


def _merge(chosen: list[dict[str, Any]], metric: dict[str, Any]) -> None:
    for other in chosen:
        if other['type'] == metric['type']:
            for key, value in metric.items():
                if other.get(key) != value:
                    other[key] = _as_list(other.get(key, [])) + _as_list(value)
            return
    chosen.append(metric)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def metric_class(metric: Any) -> Any:
    """Return the class a metric configuration names, looked up in the default scope.

    Args:
        metric: The configuration of a metric.
    """
    return registered_class(metric['type'], 'METRICS')


def _complete(
    metric: dict[str, Any], configured: list[dict[str, Any]], dataset: Any
) -> dict[str, Any]:
    found = metric_class(metric)
    for other in configured:
        if issubclass(found, metric_class(other)):  # ours take what those of mmdet and mmseg take
            known = {key: value for key, value in other.items() if key in arguments_of(found)}
            metric = {**known, 'format_only': False, **metric}
            if 'format_only' not in arguments_of(found):
                metric.pop('format_only')
    given = [other['ann_file'] for other in configured if other.get('ann_file')]
    if 'ann_file' in arguments_of(found) and not metric.get('ann_file'):
        from isda_suite.datasets.checks import annotation_path  # loads mmdet's data sets

        metric['ann_file'] = given[0] if given else str(annotation_path(dataset))
    return metric


def make_format_only(evaluators: Any, folder: str) -> list[dict[str, Any]]:
    """Return metric configurations that write result files and compute nothing.

    Args:
        evaluators: One metric configuration or several.
        folder: Where the files go unless the configuration says it.

    Raises:
        ConfigError: if a metric cannot do that.
    """
    changed = []
    for metric in _as_list(evaluators):
        known = arguments_of(metric_class(metric))
        if 'format_only' not in known:
            raise ConfigError(f'--format-only: {metric["type"]} cannot write result files')
        metric = {**metric, 'format_only': True}
        place = 'outfile_prefix' if 'outfile_prefix' in known else 'output_dir'
        if not metric.get(place):
            metric[place] = os.path.join(folder, 'results')
        changed.append(metric)
    return changed


def add_report(cfg: Any, folder: str) -> list[dict[str, Any]]:
    """Return the configured metrics and :class:`.SegmentationReport`.

    Args:
        cfg: A configuration with ``test_dataloader`` and ``test_evaluator``.
        folder: Where the report writes its files.

    Raises:
        ConfigError: if the data are not semantic, or the metrics compute nothing.
    """
    dataset = innermost_dataset(cfg.test_dataloader.dataset)
    if 'mIoU' not in evaluators_of(dataset):
        raise ConfigError(
            '--out-dir: a confusion matrix counts pixels that have one class each; data of type '
            f'{dataset["type"]} have none: leave --out-dir out'
        )
    metrics = _as_list(cfg.get('test_evaluator') or [])
    if any(metric.get('format_only') for metric in metrics):
        raise ConfigError('--out-dir needs the labels, --format-only uses none: leave one out')
    report = {'type': 'isda_suite.SegmentationReport', 'out_dir': folder}
    # The same pixels as the metric counts.
    ignored = [metric['ignore_index'] for metric in metrics if 'ignore_index' in metric]
    return [*metrics, {**report, 'ignore_index': ignored[0]} if ignored else report]
