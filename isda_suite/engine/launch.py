"""The start of a run: what must hold before mmengine's runner is made, and its making."""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isda_suite.compat.gloo import LAUNCHERS
from isda_suite.compat.mmcv_switch import switch_mmcv_patch
from isda_suite.engine.config_checks import check_keys
from isda_suite.engine.config_file import apply_options, read_config
from isda_suite.engine.dashboards import let_wandb_finish, require_dashboards
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.exit_codes import FAILED, error_message, exit_code
from isda_suite.engine.metric_packages import require_metrics
from isda_suite.engine.number_checks import check_numbers
from isda_suite.engine.type_checks import explain_build_error

# What torch says of a worker that the kernel has killed.
_KILLED_WORKER = re.compile(
    r'DataLoader worker \(pid.*(killed by signal|exited unexpectedly)|^ConnectionResetError'
)
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# On in every run, also with configurations that know nothing of them. `name=None` in
# default_hooks switches one off.
_HOOKS = {
    'finite_loss': 'isda_suite.FiniteLossHook',
    'counted_randomness': 'isda_suite.CountedRandomnessHook',
    'checkpoint_fit': 'isda_suite.CheckpointFitHook',
    'preemption': 'isda_suite.PreemptionHook',
    'class_count': 'isda_suite.ClassCountHook',
    'loader_memory': 'isda_suite.LoaderMemoryHook',
    'progress': 'isda_suite.ProgressHook',
    'training_state': 'isda_suite.TrainingStateHook',
}
# Takes the place of mmengine's in every configuration; the arguments are the same.
_CHECKPOINT_HOOK = 'isda_suite.SafeCheckpointHook'


def load_config(
    config: Any, cfg_options: dict[str, Any] | None = None, work_dir: str | Path | None = None
) -> Any:
    """Read a configuration, check its keys, and set what the command line overrides.

    Args:
        config: A file or name as for :func:`.config_file.find_config`, or a ``Config``, which is
            copied.
        cfg_options: As for :func:`.config_file.apply_options`.
        work_dir: Folder for logs and checkpoints; None takes the configuration's, else
            ``work_dirs/NAME`` in the working directory.

    Returns:
        The ``Config``.

    Raises:
        ConfigError: if it cannot be read, has unknown keys, or counts and rates that are none.
    """
    from copy import deepcopy

    cfg = read_config(config) if isinstance(config, str | Path) else deepcopy(config)
    check_keys(cfg)
    apply_options(cfg, cfg_options)
    check_numbers(cfg)
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename or 'run').stem)
    return cfg


def prepare_run(cfg: Any, launcher: str = 'none', trust_checkpoint: bool = False) -> None:
    """Set up the process and the configuration for this machine.

    Known noise of libraries is silenced; checkpoints are read as data from here on; mmcv's modules
    are replaced if the configuration says so; on a machine without a GPU the ranks talk through
    gloo, and what needs a GPU is configured away.

    Args:
        cfg: Changed in place.
        launcher: What started the processes: none, pytorch, slurm or mpi.
        trust_checkpoint: Let checkpoints run code.

    Raises:
        ConfigError: if the launcher is unknown or did not start this process, ``patch_mmcv`` is no
            truth value, or the package of a dashboard or a metric is not installed.
    """
    import torch

    from isda_suite.checkpoint.safe_load import install_safe_loading
    from isda_suite.checkpoint.saving import install_safe_saving
    from isda_suite.compat.warning_filters import filter_known_warnings

    if launcher not in LAUNCHERS:
        raise ConfigError(f'launcher must be one of {", ".join(LAUNCHERS)}, got {launcher!r}')
    _require_launcher(launcher)
    require_dashboards(cfg)
    let_wandb_finish()
    require_metrics(cfg)
    filter_known_warnings()
    choose_operators(cfg)
    install_safe_loading(trust_checkpoint)
    install_safe_saving()
    cfg.launcher = launcher
    if cfg.get('env_cfg') is None:
        cfg.env_cfg = dict(dist_cfg=dict(backend='nccl'))
    if launcher == 'pytorch' and cfg.env_cfg.get('dist_cfg'):
        # torchrun has chosen the port; torch's own start takes no such argument.
        cfg.env_cfg.dist_cfg.pop('port', None)
    _add_hooks(cfg)
    if not torch.cuda.is_available():
        _fit_cpu(cfg, launcher)


def choose_operators(cfg: Any) -> None:
    """Let stock models use our operators if ``patch_mmcv`` of the configuration is true.

    Args:
        cfg: A configuration.

    Raises:
        ConfigError: if it is neither true nor false.
    """
    on = cfg.get('patch_mmcv', False)
    if not isinstance(on, bool):
        raise ConfigError(f'patch_mmcv must be True or False, got {on!r}')
    switch_mmcv_patch(on)


_LAUNCHER_VARIABLE = {
    'pytorch': ('RANK', 'tools/dist_train.sh (torchrun)'),
    'slurm': ('SLURM_PROCID', 'tools/slurm_train.sh (srun)'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'mpirun'),
}


def _require_launcher(launcher: str) -> None:
    variable, starter = _LAUNCHER_VARIABLE.get(launcher, ('', ''))
    if variable and variable not in os.environ:
        raise ConfigError(
            f'--launcher {launcher} is for processes started by {starter}: {variable} is not in '
            'the environment; leave --launcher out for a single process'
        )


def _add_hooks(cfg: Any) -> None:
    hooks = cfg.get('default_hooks') or {}
    for name, kind in _HOOKS.items():
        hooks.setdefault(name, dict(type=kind))
        # mmengine takes None only for the hooks it knows itself.
        if hooks[name] is None:
            hooks.pop(name)
    saver = hooks.setdefault('checkpoint', dict(type=_CHECKPOINT_HOOK))
    if saver is not None and saver.get('type') in ('CheckpointHook', 'mmengine.CheckpointHook'):
        saver['type'] = _CHECKPOINT_HOOK
    cfg.default_hooks = hooks


def _fit_cpu(cfg: Any, launcher: str) -> None:
    for name in _LOADERS:
        loader = cfg.get(name)
        if loader is not None and loader.get('pin_memory'):
            loader['pin_memory'] = False
    if launcher != 'none':
        _start_cpu_ranks(cfg, launcher)


def _start_cpu_ranks(cfg: Any, launcher: str) -> None:
    from isda_suite.compat.gloo import (
        cpu_ddp_wrapper_cfg,
        start_gloo_without_gpu,
        without_sync_bn,
    )

    dist_cfg = cfg.env_cfg.get('dist_cfg') or {}
    try:
        on_cpu = start_gloo_without_gpu(
            launcher, timeout_s=dist_cfg.get('timeout', 1800), port=dist_cfg.get('port')
        )
    except ValueError as error:  # variables of the launcher are missing
        raise ConfigError(str(error)) from error
    if not on_cpu:
        return
    # Synchronised batch normalisation exists for GPUs only.
    cfg.model = without_sync_bn(cfg.model)
    cfg.sync_bn = None
    wrapper = cpu_ddp_wrapper_cfg()
    if cfg.get('find_unused_parameters'):
        wrapper['find_unused_parameters'] = True
    strategy = cfg.get('strategy')
    if strategy is not None:
        strategy['model_wrapper'] = wrapper
    else:
        cfg.model_wrapper_cfg = wrapper


@contextmanager
def explained(cfg: Any) -> Iterator[None]:
    """Turn errors about unknown types and arguments inside the block into :class:`ConfigError`.

    When a data loading process is killed, the error says what that probably means.

    Args:
        cfg: The configuration that is being built or run.
    """
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if not _KILLED_WORKER.search(f'{type(error).__name__}: {error}'):
            raise
        counts = {n: cfg[n].get('num_workers', 0) for n in _LOADERS if cfg.get(n) is not None}
        raise RuntimeError(
            f'{error} A data loading process was killed, probably out of memory: lower '
            f'num_workers ({", ".join(f"{name} has {count}" for name, count in counts.items())}), '
            'the batch size or the size of the images'
        ) from error
    except (TypeError, KeyError) as error:
        better = explain_build_error(cfg, error)
        if better is None:
            raise
        raise better from error


def build_runner(cfg: Any) -> Any:
    """Make the runner a configuration asks for: ``Runner`` or what ``runner_type`` names.

    Raises:
        ConfigError: if a class does not exist, or does not take an argument or its value.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from isda_suite.checkpoint.old_offsets import accept_old_offsets
    from isda_suite.compat.warning_filters import filter_known_log_lines

    _name_run(cfg)
    try:
        with explained(cfg):
            runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    except (ValueError, KeyError, AssertionError) as error:
        if exit_code(error) != FAILED:
            raise
        raise ConfigError(
            f'{cfg.filename or "the configuration"} cannot be built: {type(error).__name__}: '
            f'{error_message(error)} (ISDA_DEBUG=1 shows where)'
        ) from error
    filter_known_log_lines(runner.logger)
    if hasattr(runner.model, 'modules'):  # a FlexibleRunner makes its model later
        accept_old_offsets(runner.model)
    return runner


_runs = itertools.count()


def _name_run(cfg: Any) -> None:
    """Give the second and later runs of one process names of their own.

    mmengine keeps loggers, message hubs and visualizers by a name that changes once a second.
    """
    number = next(_runs)
    if number and not cfg.get('experiment_name'):
        cfg.experiment_name = f'{Path(cfg.filename or "run").stem}-{number}'
