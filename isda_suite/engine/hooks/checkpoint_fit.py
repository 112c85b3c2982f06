"""A hook that looks at a checkpoint before the runner loads it."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import compare, require_fit
from isda_suite.engine.counted_randomness import batch_size_of
from isda_suite.engine.run_record import (
    RECORD,
    config_changes,
    record,
    require_same_config,
    require_same_size,
)
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Stop when a checkpoint does not fit the run, instead of going on with something else.

    A run that is resumed needs every entry, the same class names, the same model and optimizer in
    its configuration, and the same number of images a step. ``load_from`` may leave parts out,
    which are listed in one table; it needs at least half of the parameters. Sharded models (FSDP,
    DeepSpeed) are not looked at.

    Args:
        allow_world_size_change: Resume with another number of images a step; learning rates are
            scaled with it.
        allow_config_change: Resume with another model or optimizer configuration.

    Raises:
        CheckpointError: naming what is missing, unexpected, or of another shape; a run is resumed
            from a file that holds weights only.
        ConfigError: naming what differs from the run that wrote the checkpoint.
    """

    priority = 'HIGHEST'

    def __init__(
        self, allow_world_size_change: bool = False, allow_config_change: bool = False
    ) -> None:
        self.allow_world_size_change = allow_world_size_change
        self.allow_config_change = allow_config_change
        self._growth = 1.0

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write down what the run is."""
        checkpoint['meta'][RECORD] = record(
            _config(runner), get_world_size(), batch_size_of(runner.train_loop.dataloader)
        )

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the checkpoint that was read with the run."""
        saved = checkpoint.get('meta', {}).get(RECORD)
        if runner._resume and saved:
            size = get_world_size(), batch_size_of(runner.train_loop.dataloader)
            self._growth = require_same_size(saved, *size, self.allow_world_size_change)
            changes = config_changes(saved, _config(runner))
            table = require_same_config(changes, self.allow_config_change)
            if table:
                runner.logger.warning(table)
        name = str(runner._load_from or 'the checkpoint')
        if _holds_whole_tensors(runner.model):
            report = compare(runner.model, checkpoint, name)
            dataset = getattr(getattr(runner._train_loop, 'dataloader', None), 'dataset', None)
            classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
            require_fit(report, runner.model, strict=bool(runner._resume), classes=classes)
        if runner._resume:
            _require_progress(checkpoint, name)

    def before_train(self, runner: Any) -> None:
        """Scale what the checkpoint brought when a step has another number of images."""
        if self._growth == 1.0:
            return
        before = runner.optim_wrapper.get_lr()
        _scale_rates(runner, self._growth)
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            # The next epoch starts at a whole number of the new, longer or shorter, epochs.
            loop._iter = loop.epoch * len(loop.dataloader)
        runner.logger.warning(
            f'a step has {self._growth:.6g} times the images it had before: learning rates '
            f'{before} become {runner.optim_wrapper.get_lr()}'
        )


def _require_progress(checkpoint: Mapping[str, Any], name: str) -> None:
    meta = checkpoint.get('meta') or {}
    missing = [key for key in ('epoch', 'iter') if key not in meta]
    missing += [key for key in ('message_hub',) if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f'{name} holds weights, but not how far a training had come (no {", ".join(missing)}), '
            'as published and converted files do: start a new run from it with --cfg-options '
            f'load_from={name}'
        )


def _config(runner: Any) -> dict[str, Any]:
    content: dict[str, Any] = runner.cfg.to_dict()
    return content


def _scale_rates(runner: Any, factor: float) -> None:
    wrapped = runner.optim_wrapper
    wrappers = [wrapped] if isinstance(wrapped, OptimWrapper) else list(wrapped.values())
    for wrapper in wrappers:
        for group in wrapper.optimizer.param_groups:
            for key in ('lr', 'initial_lr'):
                if key in group:
                    group[key] *= factor
    found = runner.param_schedulers or []
    schedulers = found if isinstance(found, list) else [s for part in found.values() for s in part]
    for scheduler in schedulers:
        if scheduler.param_name == 'lr':
            scheduler.base_values = [value * factor for value in scheduler.base_values]


def _holds_whole_tensors(model: Any) -> bool:
    """Tell whether each process has every parameter in its own shape; sharded models do not."""
    wrapped = is_model_wrapper(model) and not isinstance(model, DistributedDataParallel)
    return isinstance(model, nn.Module) and not wrapped
