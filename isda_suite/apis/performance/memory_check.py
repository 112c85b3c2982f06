"""Say before a run, or without one, how much memory it will need and whether that is there."""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from isda_suite.engine.counted_randomness import batch_size_of
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.hooks.loader_memory import LoaderNeeds, needs_of
from isda_suite.engine.memory import free_memory, used_memory

from .memory_estimate import (
    MemoryEstimate,
    Workload,
    bytes_of_weights,
    describe,
    estimate,
    kept_randomness,
)

SWITCH = 'ISDA_MEMORY_ESTIMATE'


class MemoryEstimateHook(Hook):
    """Log the estimate before the first step; a warning if it will not fit, never a stop."""

    priority = 'LOWEST'  # after the hook that looks at the samples of the loaders

    def before_train(self, runner: Any) -> None:
        """Log what training needs."""
        self._log(runner, runner.train_loop.dataloader, training=True)

    def before_test(self, runner: Any) -> None:
        """Log what testing needs."""
        self._log(runner, runner.test_loop.dataloader, training=False)

    @master_only
    def _log(self, runner: Any, loader: Any, training: bool) -> None:
        if os.environ.get(SWITCH) == '0':
            return
        try:
            found, load = _of_runner(runner, loader, training)
        except Exception as error:  # an estimate that fails must not cost the run
            text = f'{type(error).__name__}: {error}'.splitlines()[0]
            runner.logger.info(f'the memory of this run is not estimated: {text}')
            return
        room = available(next(runner.model.parameters()).device)
        text = describe(found, load, room)
        if room is None or found.total <= room:
            runner.logger.info(text)
        else:
            runner.logger.warning(f'{text}: it will probably not fit; {_advice(load)}')


def _of_runner(runner: Any, loader: Any, training: bool) -> tuple[MemoryEstimate, Workload]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    with kept_randomness():
        needs = needs_of(loader)
    amp = training and 'Amp' in type(runner.optim_wrapper).__name__
    load = workload(model, needs, batch_size_of(loader), training, amp)
    ranks = int(os.environ.get('LOCAL_WORLD_SIZE') or get_world_size())
    trial = copy.copy(model)
    trial.cfg = runner.cfg
    optimizer = runner.cfg.optim_wrapper.optimizer if training else None
    found = estimate(
        trial,
        load,
        optimizer,
        partial(_process_bytes, model),
        loader.num_workers * needs.worker_bytes,
    )
    on_cpu = next(model.parameters()).device.type == 'cpu'
    if on_cpu and ranks > 1:  # they share the memory of the machine
        found = MemoryEstimate(**{name: ranks * value for name, value in vars(found).items()})
    return found, load


def _process_bytes(model: nn.Module) -> int:
    """Return what this process takes beside the weights of its model; nothing of it on a GPU."""
    if next(model.parameters()).device.type != 'cpu':
        return 0
    return max((used_memory() or 0) - bytes_of_weights(model), 0)


def available(device: torch.device) -> int | None:
    """Return what the whole process may take, its present memory included.

    Args:
        device: Where the model is; of a GPU its own memory counts.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    free_now = free_memory()
    return None if free_now is None else free_now + (used_memory() or 0)


def workload(
    model: nn.Module,
    needs: LoaderNeeds,
    batch_size: int,
    training: bool,
    amp: bool = False,
) -> Workload:
    """Return what will run, from what the data showed.

    Args:
        model: Its preprocessor pads images.
        needs: Of the data loader.
        batch_size: Images or clips at a time.
        training: Whether gradients are computed.
        amp: Mixed precision.

    Raises:
        ConfigError: if the size of the inputs is not known.
    """
    if needs.size_hw is None:
        raise ConfigError('inputs of the data set have no size; state one')
    size = padded(model, needs.size_hw, training)
    return Workload(batch_size, size, training, max(needs.num_instances, 1), amp)


def padded(model: Any, size_hw: tuple[int, int], training: bool) -> tuple[int, int]:
    """Return the size of a batch whose largest image has this size, as the network sees it."""
    preprocessor = model.data_preprocessor
    fixed = getattr(preprocessor, 'size', None)
    if fixed is not None and training:
        return max(fixed[0], size_hw[0]), max(fixed[1], size_hw[1])
    divisor = (
        getattr(preprocessor, 'pad_size_divisor', None)
        or getattr(preprocessor, 'size_divisor', None)
        or 1
    )
    height, width = (-(-side // divisor) * divisor for side in size_hw)
    return height, width


def _advice(load: Workload) -> str:
    if load.training:
        return (
            'lower train_dataloader.batch_size, num_workers, or the size of the images, use --amp, '
            'or accumulate gradients (optim_wrapper.accumulative_counts)'
        )
    return 'lower the batch size, num_workers or the size of the images'


def sizes_in_pipeline(steps: Sequence[Any]) -> tuple[int, int] | None:
    """Return the largest height and width that the steps of a pipeline can lead to.

    Args:
        steps: Of a configuration; sizes are (width, height), as mmdet writes them.

    Returns:
        None if no step states a size.
    """
    size: tuple[int, int] | None = None
    for step in _flat(steps):
        kind = str(step.get('type', '')).rpartition('.')[2]
        scales = step.get('scales') or step.get('scale') or step.get('img_scale')
        if 'Resize' in kind and scales:
            pairs = scales if isinstance(scales[0], list | tuple) else [scales]
            # Of ratios (RandomResize of mmseg) the largest counts.
            ratio = max(step.get('ratio_range') or (1.0,))
            width, height = max(pairs, key=lambda pair: pair[0] * pair[1])
            size = int(height * ratio), int(width * ratio)
        crop = step.get('crop_size')
        if 'Crop' in kind and crop and step.get('crop_type', 'absolute') == 'absolute':
            height, width = (crop, crop) if isinstance(crop, int) else crop
            size = (
                (int(height), int(width))
                if size is None
                else (min(size[0], int(height)), min(size[1], int(width)))
            )
    return size


def _flat(steps: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a pipeline and of the pipelines inside of it, in their order."""
    for step in steps or []:
        if isinstance(step, dict):
            yield step
            yield from _flat(step.get('transforms'))
        elif isinstance(step, list | tuple):
            yield from _flat(step)


def check_fit(
    config: Config,
    training: bool = True,
    batch_size: int | None = None,
    size_hw: tuple[int, int] | None = None,
    workers: int | None = None,
    num_instances: int | None = None,
    amp: bool = False,
) -> tuple[MemoryEstimate, Workload, int | None]:
    """Estimate the memory of a configuration on the CPU, without running it.

    Args:
        config: The configuration.
        training: Training, else testing.
        batch_size: None takes that of the data loader.
        size_hw: Of the images before padding. None looks at the data, or if it is not there, at
            the sizes in the pipeline.
        workers: Data loading processes; None takes those of the data loader.
        num_instances: Objects in each image; None looks at the data, else takes 8.
        amp: Mixed precision.

    Returns:
        The estimate, what it is for, and the bytes that are there for it, None if unknown.

    Raises:
        ConfigError: if the size of the images is not known.
    """
    from isda_suite.apis.model import build_model

    name = 'train_dataloader' if training else 'test_dataloader'
    loader_cfg = config.get(name)
    if loader_cfg is None:
        raise ConfigError(f'{config.filename} has no {name}')
    needs = _needs_of_config(config, name, workers, batch_size)
    size = size_hw or needs.size_hw
    if size is None:
        raise ConfigError(
            f'{name} of {config.filename}: the data is not there and its pipeline states no size, '
            'give --image-size HEIGHT WIDTH'
        )
    model = build_model(config)
    needs = replace(needs, size_hw=size, num_instances=num_instances or needs.num_instances or 8)
    number = batch_size or int(loader_cfg.get('batch_size', 1))
    load = workload(model, needs, number, training, amp)
    found = estimate(
        model,
        load,
        config.optim_wrapper.optimizer if training else None,
        partial(_process_bytes, model),
        (loader_cfg.get('num_workers', 0) if workers is None else workers) * needs.worker_bytes,
    )
    return found, load, available(torch.device('cpu'))


def _needs_of_config(
    config: Config, name: str, workers: int | None, batch_size: int | None
) -> LoaderNeeds:
    """Look at the data of a configuration if it is there, else at its pipeline."""
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.config_checks import check_paths
    from isda_suite.engine.dataset_config import innermost_dataset

    loader_cfg = copy.deepcopy(config[name])
    if workers is not None:
        loader_cfg.num_workers = workers
        loader_cfg.persistent_workers = bool(workers)
    if batch_size is not None:
        loader_cfg.batch_size = batch_size
    try:
        check_paths(config, [name], weights=False)
    except ConfigError:
        dataset = loader_cfg.dataset
        inner = innermost_dataset(dataset)
        steps = [*(inner.get('pipeline') or []), *(dataset.get('pipeline') or [])]
        return LoaderNeeds(0, sizes_in_pipeline(steps), 0)
    with quiet_imports(), DefaultScope.overwrite_default_scope(config.get('default_scope')):
        with kept_randomness():
            return needs_of(Runner.build_dataloader(loader_cfg, seed=0))
