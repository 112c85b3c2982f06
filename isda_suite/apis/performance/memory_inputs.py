"""What a run will be fed: sizes and objects, from its data, or from its pipeline without data."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.hooks.loader_memory import LoaderNeeds, needs_of

from .memory_trial import Workload, kept_randomness

# A worker is a copy of the process, and what either of them changes is there twice: objects of
# Python, whose counts of references change when they are used. Measured on `isda_sample` with two
# workers: 16 MB in each, and 100 MB that the process changes beside all workers of a loader.
_WORKER_CHANGES, _PROCESS_CHANGES = 16_000_000, 100_000_000


def bytes_of_loading(workers: int, worker_bytes: int, changing: int = 0) -> int:
    """Return what the data loading processes of one loader take.

    Args:
        workers: How many.
        worker_bytes: What each takes for its samples.
        changing: Bytes of tensors that the process changes while they live.
    """
    if not workers:
        return 0
    return workers * (worker_bytes + _WORKER_CHANGES) + _PROCESS_CHANGES + changing


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


def needs_of_config(
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
