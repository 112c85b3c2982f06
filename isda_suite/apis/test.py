"""Evaluate a checkpoint on the test data of a configuration."""

from pathlib import Path
from typing import Any

from isda_suite.apis.evaluation import add_report, choose_evaluators, make_format_only
from isda_suite.apis.evaluation_pipelines import mirrored_views, require_labels
from isda_suite.apis.zoo import local_weights
from isda_suite.engine.class_count import settle_class_count
from isda_suite.engine.config_checks import check_paths, check_work_dir, require_parts
from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import build_runner, explained, load_config, prepare_run

OUTPUT_KINDS = ('.json', '.pkl', '.pickle')


# One argument for each flag of tools/test.py, so more than seven.
def evaluate(
    config: Any,
    checkpoint: str | Path,
    eval: list[str] | None = None,
    out: str | Path | None = None,
    format_only: bool = False,
    show_dir: str | Path | None = None,
    show_score_thr: float = 0.3,
    tta: bool = False,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
    trust_checkpoint: bool = False,
    work_dir: str | Path | None = None,
    out_dir: str | Path | None = None,
    report: str | Path | None = None,
    report_images: int = 4,
) -> dict[str, Any]:
    """Evaluate a checkpoint, print one table and return its numbers.

    Args:
        config: A configuration file, its bare name, or a ``Config``.
        checkpoint: The weights, as for :func:`.zoo.resolve_weights`; they must fit the model
            completely.
        eval: What to evaluate instead of the configured metrics, e.g. ``['segm', 'bbox']``.
        out: File for the predictions, ``.json`` or ``.pkl``.
        format_only: Write result files for an evaluation server and compute nothing.
        show_dir: Folder for pictures of the predictions.
        show_score_thr: Scores below this are not drawn.
        tta: Test-time augmentation by ``tta_model`` of the configuration, over the views of its
            ``tta_pipeline``; without one, each image of the test pipeline and its mirror image.
        cfg_options: Values to set in the configuration, by dotted key.
        launcher: What started the processes: ``none``, ``pytorch``, ``slurm``, ``mpi``.
        trust_checkpoint: Let the checkpoint run code while it is read.
        work_dir: Folder for logs; None takes the configuration's, else ``work_dirs/NAME``.
        out_dir: Folder for the files of :class:`.SegmentationReport`; for semantic data.
        report: The HTML file of :class:`.reports.report.ReportHook`; ``'auto'`` is ``report.html``
            in the folder for logs, None writes none. With ``format_only`` there is none either.
        report_images: How many of the best and of the worst images it shows.

    Returns:
        The metrics by name.

    Raises:
        ConfigError: if the configuration or an argument cannot work.
        CheckpointError: if the checkpoint is damaged or of another model.
    """
    cfg = load_config(config, cfg_options, work_dir)
    checkpoint = local_weights(checkpoint) or checkpoint
    _check_files(cfg, checkpoint, out)
    if report_images < 0:
        raise ConfigError(f'--report-images must not be negative, got {report_images}')
    if not 0 <= show_score_thr <= 1:
        raise ConfigError(f'--show-score-thr must lie between 0 and 1, got {show_score_thr}')
    prepare_run(cfg, launcher, trust_checkpoint)
    _set_up_test(cfg, eval, format_only, tta, out_dir)
    runner = _build(cfg, checkpoint, trust_checkpoint)
    _add_outputs(runner, out, show_dir, show_score_thr)
    if report is not None and not format_only:
        _add_report(runner, checkpoint, report, report_images, show_score_thr)
    metrics = dict(runner.test())
    print_table(metrics, f'{checkpoint} on {_data_name(cfg)}')
    return metrics


def _check_files(cfg: Any, checkpoint: str | Path, out: str | Path | None) -> None:
    require_parts(cfg, ['model', 'test_dataloader', 'test_cfg'], 'testing')
    check_work_dir(cfg.work_dir)
    if out is not None and Path(out).suffix not in OUTPUT_KINDS:
        raise ConfigError(f'--out {out}: the file must end with one of {", ".join(OUTPUT_KINDS)}')
    check_paths(cfg, ['test_dataloader'], weights=False, checkpoint=str(checkpoint))
    settle_class_count(cfg, ['test_dataloader', 'train_dataloader'])


def _build(cfg: Any, checkpoint: str | Path, trust: bool) -> Any:
    # Loads torch and the compiled library, so not before the cheap checks.
    from isda_suite.apis.operators import log_operators
    from isda_suite.apis.performance.memory_check import MemoryEstimateHook

    runner = build_runner(cfg)
    log_operators(runner)
    runner.register_hook(MemoryEstimateHook(), priority='LOWEST')
    with explained(cfg):
        _load(runner, checkpoint, trust)
    return runner


def _add_outputs(
    runner: Any, out: str | Path | None, show_dir: str | Path | None, score_thr: float
) -> None:
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.predictions import DrawPredictions, PredictionFile

    if out is not None:
        runner.test_evaluator.metrics.append(PredictionFile(out))
    if show_dir is not None:
        runner.register_hook(DrawPredictions(Path(show_dir).absolute(), score_thr))


def _add_report(
    runner: Any, checkpoint: str | Path, path: str | Path, count: int, score_thr: float
) -> None:
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.reports.report import ReportHook, ReportSettings

    cfg = runner.cfg
    file = Path(cfg.work_dir) / 'report.html' if path == 'auto' else Path(path)
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    ignored = [metric['ignore_index'] for metric in metrics if 'ignore_index' in metric]
    settings = ReportSettings(
        file.absolute(),
        str(cfg.filename or 'run'),
        cfg.pretty_text,
        str(checkpoint),
        num_shown=count,
        score_thr=score_thr,
        ignore_index=ignored[0] if ignored else 255,
    )
    runner.register_hook(ReportHook(settings))


def _set_up_test(
    cfg: Any,
    words: list[str] | None,
    format_only: bool,
    tta: bool,
    out_dir: str | Path | None,
) -> None:
    from mmengine.registry import DefaultScope

    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.type_checks import check_types

    # A strategy for training (FSDP, DeepSpeed) has no part in a test.
    cfg.pop('runner_type', None)
    cfg.pop('strategy', None)
    cfg.load_from, cfg.resume = None, False
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        with quiet_imports():
            if tta:
                _set_up_tta(cfg)
            check_types(cfg)
        if words:
            cfg.test_evaluator = choose_evaluators(cfg, words)
        if format_only:
            require_parts(cfg, ['test_evaluator'], '--format-only')
            cfg.test_evaluator = make_format_only(cfg.test_evaluator, cfg.work_dir)
        if out_dir is not None:
            cfg.test_evaluator = add_report(cfg, str(out_dir))
        require_parts(cfg, ['test_evaluator'], 'testing without --eval')
        require_labels(cfg, 'test')
    _require_ground_truth(cfg)


def _set_up_tta(cfg: Any) -> None:
    if cfg.get('tta_model') is None:
        raise ConfigError(
            f'--tta: {cfg.filename} defines no tta_model. Methods that predict by queries (ISDA) '
            'have none, because the queries of two views of an image do not correspond'
        )
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    dataset = innermost_dataset(cfg.test_dataloader.dataset)
    dataset['pipeline'] = cfg.get('tta_pipeline') or mirrored_views(dataset['pipeline'])


def _require_ground_truth(cfg: Any) -> None:
    """Refuse to evaluate on COCO's files without labels; they are named image_info_*.json."""
    name = Path(innermost_dataset(cfg.test_dataloader.dataset).get('ann_file') or '').name
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    if name.startswith('image_info') and not all(one.get('format_only') for one in metrics):
        raise ConfigError(
            f'{name} of the test data holds no annotations, so nothing can be evaluated (COCO '
            'test-dev is such data); write result files with --format-only, or test on the '
            'validation data'
        )


def _load(runner: Any, checkpoint: str | Path, trust: bool) -> None:
    from mmengine.model import BaseTTAModel, is_model_wrapper

    from isda_suite.checkpoint.load import load_into
    from isda_suite.engine.memory import give_back

    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if isinstance(model, BaseTTAModel):
        model = model.module
    classes = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes')
    load_into(model, checkpoint, strict=True, trust=trust, classes=classes)
    give_back()  # a checkpoint of a training is three times as large as its weights


def _data_name(cfg: Any) -> str:
    dataset = innermost_dataset(cfg.test_dataloader.dataset)
    return str(dataset.get('ann_file') or dataset.get('data_root') or dataset['type'])


def print_table(metrics: dict[str, Any], title: str) -> None:
    """Print metrics as one table, from the first process only.

    Args:
        metrics: Numbers by name.
        title: What they are of.
    """
    from mmengine.dist import is_main_process

    if not is_main_process() or not metrics:
        return
    width = max(len(name) for name in metrics)
    print(f'\n{title}\n{"-" * (width + 12)}')
    for name, value in metrics.items():
        shown = f'{value:10.4f}' if isinstance(value, float) else f'{value!s:>10}'
        print(f'{name:<{width}}  {shown}')
