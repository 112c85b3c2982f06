"""Train a model from a configuration."""

import os
from pathlib import Path
from typing import Any

from isda_suite.apis.evaluation_pipelines import require_labels
from isda_suite.apis.zoo import local_weights
from isda_suite.engine.class_count import settle_class_count
from isda_suite.engine.config_checks import check_paths, check_work_dir, require_parts
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import (
    build_runner,
    explained,
    load_config,
    prepare_run,
)
from isda_suite.engine.old_options import is_first_process


# One argument for each flag of tools/train.py, so more than seven.
def train(
    config: Any,
    work_dir: str | Path | None = None,
    resume: str | Path | bool | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    seed: int | None = None,
    deterministic: bool = False,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
    trust_checkpoint: bool = False,
    allow_world_size_change: bool = False,
    allow_config_change: bool = False,
) -> Any:
    """Train a model; everything that can be checked is checked before the model is built.

    Args:
        config: A configuration file, its bare name (``isda_sample``), or a ``Config``.
        work_dir: Folder for logs and checkpoints; None takes the configuration's, else
            ``work_dirs/NAME``.
        resume: ``'auto'`` or True continues from the newest checkpoint of the work dir, or
            starts if there is none; a path continues from that checkpoint.
        amp: Mixed precision: float16 on a GPU, bfloat16 on the CPU.
        auto_scale_lr: Scale the learning rate with the number of images per step.
        seed: Seed of all random numbers; None draws one.
        deterministic: Use deterministic algorithms only.
        cfg_options: Values to set in the configuration, by dotted key.
        launcher: What started the processes: ``none``, ``pytorch``, ``slurm``, ``mpi``.
        trust_checkpoint: Let checkpoints run code while they are read.
        allow_world_size_change: Resume with another number of images a step; the learning rate
            is scaled with it.
        allow_config_change: Resume with another model or optimizer configuration.

    Returns:
        mmengine's runner after the training, with ``model`` and ``message_hub``.

    Raises:
        ConfigError: if the configuration or an argument cannot work.
        DataError: if the annotations are wrong.
        NonFiniteLossError: if a loss became NaN or infinite.
        PreemptedError: if a signal asked the run to stop; its state is saved.
    """
    cfg = load_config(config, cfg_options, work_dir)
    from_newest = _set_resume(cfg, resume)
    cfg.load_from = local_weights(cfg.get('load_from'))
    _check_files(cfg)
    _set_optimisation(cfg, amp, auto_scale_lr)
    _set_randomness(cfg, seed, deterministic)
    prepare_run(cfg, launcher, trust_checkpoint)
    if 'checkpoint_fit' in cfg.default_hooks:
        cfg.default_hooks.checkpoint_fit.update(
            allow_world_size_change=allow_world_size_change,
            allow_config_change=allow_config_change,
        )
    _check_types_and_annotations(cfg)
    if from_newest:
        _take_newest(cfg)
    return _run(cfg, from_newest)


def _run(cfg: Any, from_newest: bool) -> Any:
    # Loads torch and the compiled library, so not before the cheap checks.
    from isda_suite.apis.operators import log_operators
    from isda_suite.apis.performance.memory_check import MemoryEstimateHook
    from isda_suite.engine.hooks.preemption import signals_given_back
    from isda_suite.engine.workers import stop_workers

    runner = build_runner(cfg)
    log_operators(runner)
    runner.register_hook(MemoryEstimateHook(), priority='LOWEST')
    if from_newest and not cfg.resume:
        runner.logger.warning(
            f'--resume: there is no checkpoint in {runner.work_dir} yet, training starts from '
            f'{cfg.load_from or "the beginning"}'
        )
    with explained(cfg), signals_given_back():
        try:
            runner.train()
        finally:
            stop_workers(runner)
    return runner


def _check_files(cfg: Any) -> None:
    loaders = ['train_dataloader', 'val_dataloader']
    require_parts(cfg, ['model', 'train_dataloader', 'train_cfg', 'optim_wrapper'], 'training')
    check_work_dir(cfg.work_dir)
    check_paths(cfg, loaders, resume=cfg.load_from if cfg.resume else None)
    settle_class_count(cfg, loaders)


def _set_resume(cfg: Any, resume: str | Path | bool | None) -> bool:
    """Settle what is resumed; return whether it is the newest checkpoint of the work dir."""
    if resume is None and int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')):
        resume = 'auto'  # torchrun starts all ranks again after one has died
    if resume is None or resume is False:
        wanted = bool(cfg.get('resume'))
        from_newest = wanted and not cfg.get('load_from')
    else:
        wanted = True
        from_newest = resume is True or str(resume) == 'auto'
        if not from_newest:
            cfg.load_from = str(resume)
    # Until the newest is known, load_from are the weights the run starts from if there is none.
    cfg.resume = wanted and not from_newest
    return from_newest


def _take_newest(cfg: Any) -> None:
    from isda_suite.checkpoint.latest import find_newest

    newest = find_newest(cfg.work_dir)
    if newest is not None:
        cfg.resume, cfg.load_from = True, str(newest)


def _set_optimisation(cfg: Any, amp: bool, auto_scale_lr: bool) -> None:
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ConfigError(
                f'--auto-scale-lr: {cfg.filename} has no auto_scale_lr.base_batch_size, the '
                'number of images per step its learning rate is for; add '
                'auto_scale_lr=dict(enable=False, base_batch_size=…)'
            )
        cfg.auto_scale_lr.enable = True
    kind = str(cfg.optim_wrapper.get('type', ''))
    # mmengine's own wrapper refuses the CPU; ours is the same on a GPU.
    if amp or kind.rpartition('.')[2] == 'AmpOptimWrapper':
        from isda_suite.engine.amp import use_amp

        use_amp(cfg.optim_wrapper)


def _set_randomness(cfg: Any, seed: int | None, deterministic: bool) -> None:
    randomness = dict(cfg.get('randomness') or {})
    if seed is not None:
        randomness['seed'] = seed
    randomness.setdefault('seed', None)
    if deterministic:
        randomness['deterministic'] = True
    cfg.randomness = randomness


def _check_types_and_annotations(cfg: Any) -> None:
    from mmengine.registry import DefaultScope

    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.type_checks import check_types

    with quiet_imports():
        check_types(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        require_labels(cfg, 'val')
        if not is_first_process():
            return
        from isda_suite.datasets.checks import check_annotations

        for name in ('train_dataloader', 'val_dataloader'):
            if cfg.get(name) is not None:
                notes = [report.notes() for report in check_annotations(cfg[name].dataset)]
                print(*filter(None, notes), sep='\n', end='')
