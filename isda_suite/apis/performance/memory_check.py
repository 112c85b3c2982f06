"""Say before a run, or without one, how much memory it will need and whether that is there."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn
from torch.utils.data import DataLoader

from isda_suite.engine.counted_randomness import batch_size_of
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.hooks.loader_memory import needs_of
from isda_suite.engine.memory import free_memory, used_memory

from .memory_advice import smaller
from .memory_estimate import MemoryEstimate, bytes_of_weights, describe, estimate
from .memory_inputs import bytes_of_loading, needs_of_config, workload
from .memory_trial import Size, Workload, kept_randomness

SWITCH = 'ISDA_MEMORY_ESTIMATE'


@dataclass(frozen=True)
class Fit:
    """An estimate beside what is there.

    Args:
        found: The estimate.
        load: What it is for.
        room: Bytes that are there for it, None if unknown.
        on_gpu: Whether both are of a GPU.
        loaders: Bytes of data loading, which takes none of a GPU.
        model: What was estimated.
    """

    found: MemoryEstimate
    load: Workload
    room: int | None
    on_gpu: bool
    loaders: int
    model: nn.Module

    @property
    def fits(self) -> bool:
        """Whether it fits, as far as is known."""
        return self.room is None or self.found.total <= self.room

    def __str__(self) -> str:
        """Write the estimate as one line."""
        return describe(self.found, self.load, self.room, self.on_gpu)

    def advice(self) -> str:
        """Say what would fit; of a pass that was measured as it is, smaller ones are run first."""
        return smaller(self.model, self.found, self.load, self.room or 0, self.on_gpu)


class MemoryEstimateHook(Hook):
    """Log the estimate before the first step; a warning if it will not fit, never a stop."""

    priority = 'LOWEST'  # after the hook that looks at the samples of the loaders

    def before_train(self, runner: Any) -> None:
        """Log what training needs."""
        self._log(runner, training=True)

    def before_test(self, runner: Any) -> None:
        """Log what testing needs."""
        self._log(runner, training=False)

    @master_only
    def _log(self, runner: Any, training: bool) -> None:
        if os.environ.get(SWITCH) == '0':
            return
        try:
            fit = _of_runner(runner, training)
            advice = '' if fit.fits else fit.advice()
        except Exception as error:  # an estimate that fails must not cost the run
            text = f'{type(error).__name__}: {error}'.splitlines()[0]
            runner.logger.info(f'the memory of this run is not estimated: {text}')
            return
        if fit.fits:
            runner.logger.info(str(fit))
        else:
            runner.logger.warning(f'{fit}: it will probably not fit; {advice}')


def _of_runner(runner: Any, training: bool) -> Fit:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loops = [runner.train_loop, runner.val_loop] if training else [runner.test_loop]
    loaders = [loop.dataloader for loop in loops if loop is not None]
    with kept_randomness():
        needs = needs_of(loaders[0])
        data = [(getattr(one, 'num_workers', 0), _worker_bytes(one)) for one in loaders]
    amp = training and 'Amp' in type(runner.optim_wrapper).__name__
    load = workload(model, needs, batch_size_of(loaders[0]), training, amp)
    trial = copy.copy(model)
    trial.cfg = runner.cfg
    device = next(model.parameters()).device
    on_gpu = device.type != 'cpu'
    found = estimate(
        trial,
        load,
        runner.cfg.optim_wrapper.optimizer if training else None,
        None if on_gpu else partial(_process_bytes, model, _states(runner) if training else 0),
    )
    found, loading = _with_loading(found, data, on_gpu)
    ranks = int(os.environ.get('LOCAL_WORLD_SIZE') or get_world_size())
    if not on_gpu and ranks > 1:  # they share the memory of the machine
        parts: dict[str, Any] = {name: ranks * value for name, value in found.parts.items()}
        found = replace(found, **parts)
    return Fit(found, load, available(device), on_gpu, loading, trial)


def _worker_bytes(loader: Any) -> int:
    there = isinstance(loader, DataLoader) and loader.num_workers
    return needs_of(loader).worker_bytes if there else 0


def _states(runner: Any) -> int:
    """Return what the optimizer holds already, after a resumption."""
    states = runner.optim_wrapper.optimizer.state.values()
    tensors = [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _process_bytes(model: nn.Module, states: int = 0) -> int:
    """Return what this process takes beside the weights of its model and states of an optimizer."""
    return max((used_memory() or 0) - bytes_of_weights(model) - states, 0)


def available(device: torch.device) -> int | None:
    """Return what the whole process may take, its present memory included.

    Args:
        device: Where the model is; of a GPU its own memory counts.

    Returns:
        Bytes; None if they are not known, as those of a GPU that is not there.
    """
    if device.type == 'cuda':
        if not torch.cuda.is_available():
            return None
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    free_now = free_memory()
    return None if free_now is None else free_now + (used_memory() or 0)


# One argument for each flag of tools/fit.py, so more than seven.
def check_fit(
    config: Config,
    training: bool = True,
    batch_size: int | None = None,
    size_hw: Size | None = None,
    workers: int | None = None,
    num_instances: int | None = None,
    amp: bool = False,
    device: str = 'cpu',
    checkpoint: str | Path | None = None,
    room: int | None = None,
) -> Fit:
    """Estimate the memory of a configuration, without running it.

    Args:
        config: The configuration.
        training: Training, else testing.
        batch_size: None takes that of the data loader.
        size_hw: Of the images before padding. None looks at the data, or if it is not there, at
            the sizes in the pipeline.
        workers: Data loading processes; None takes those of the data loader.
        num_instances: Objects in each image; None looks at the data, else takes 8.
        amp: Mixed precision.
        device: ``cpu`` or ``cuda``; a GPU need not be there.
        checkpoint: Weights of a test; None takes random ones, in a file of nothing but weights.
        room: Bytes that are there; None asks the machine.

    Raises:
        ConfigError: if the size of the images is not known, or the checkpoint is not there.
    """
    from isda_suite.apis.model import load_model

    name = 'train_dataloader' if training else 'test_dataloader'
    if config.get(name) is None:
        raise ConfigError(f'{config.filename} has no {name}')
    needs = needs_of_config(config, name, workers, batch_size)
    size = size_hw or needs.size_hw
    if size is None:
        raise ConfigError(
            f'{name} of {config.filename}: the data is not there and its pipeline states no size, '
            'give --image-size HEIGHT WIDTH'
        )
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and not file.is_file():
        raise ConfigError(f'checkpoint {file} is not there: give the path of a file of weights')
    # With the weights that a run starts with: how many masks pass a threshold depends on them.
    model = load_model(config, file, device='cpu')
    needs = replace(needs, size_hw=size, num_instances=num_instances or needs.num_instances or 8)
    number = batch_size or int(config[name].get('batch_size', 1))
    load = workload(model, needs, number, training, amp)
    on_gpu = torch.device(device).type == 'cuda'
    read = 0 if training or on_gpu else bytes_of_weights(model)
    found = estimate(
        model,
        load,
        config.optim_wrapper.optimizer if training else None,
        None if on_gpu else partial(_process_bytes, model),
        read if file is None or not read else file.stat().st_size,
    )
    numbers = _workers(config, training, workers)
    found, data = _with_loading(found, [(n, needs.worker_bytes) for n in numbers], on_gpu)
    there = available(torch.device(device)) if room is None else room
    return Fit(found, load, there, on_gpu, data, model)


def _workers(config: Config, training: bool, workers: int | None) -> list[int]:
    """Return the data loading processes of all loaders: of the training, then of validation."""
    names = ('train_dataloader', 'val_dataloader') if training else ('test_dataloader',)
    there = [config[name] for name in names if config.get(name) is not None]
    return [loader.get('num_workers', 0) if workers is None else workers for loader in there]


def _with_loading(
    found: MemoryEstimate, loaders: Sequence[tuple[int, int]], on_gpu: bool
) -> tuple[MemoryEstimate, int]:
    """Add data loading to an estimate, which takes nothing of a GPU; return its bytes too.

    Args:
        found: The estimate without it.
        loaders: Workers, and bytes of each, of the training or test and of validation.
        on_gpu: Whether the estimate is of a GPU.
    """
    # What a worker has of the process when it starts stays as it was then; in a test nothing
    # changes.
    changes = found.optimizer and not on_gpu
    kept = [found.weights, found.weights + found.optimizer] if changes else [0, 0]
    data = sum(
        bytes_of_loading(number, each, changing)
        for (number, each), changing in zip(loaders, kept, strict=False)
    )
    return (found, data) if on_gpu else (replace(found, loaders=data), data)
