"""Say before the first step how much memory data loading will take."""

import os
import pickle
import time
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from isda_suite.engine.counted_randomness import batch_size_of
from isda_suite.engine.memory import free_memory, give_back, peak_of
from isda_suite.registry import HOOKS

_TRIED = 3
# Samples of which the sizes are looked at, as long as that takes no longer than so many seconds.
_LOOKED_AT, _SECONDS = 16, 2.0
_SHARE = 0.5
_MB = 1e6


@HOOKS.register_module()
class LoaderMemoryHook(Hook):
    """Estimate the memory of the data loading processes; warn above half of what is free.

    A worker holds the batches it has prepared, and beside them what its pipeline takes at its peak
    for one sample. Both are measured on three samples, spread over the data set.

    Where workers are forked, they start with all pages of this process, and keep those that it
    changes later. So freed memory is given back before they start.
    """

    priority = 'LOW'  # after the loaders of the run are made

    def before_val(self, runner: Any) -> None:
        """Give freed memory back before the workers of the validation start."""
        give_back()

    def before_train(self, runner: Any) -> None:
        """Log the estimate of all loaders of the training."""
        self._log(runner)
        give_back()

    @master_only
    def _log(self, runner: Any) -> None:
        ranks = int(os.environ.get('LOCAL_WORLD_SIZE') or get_world_size())
        total, parts = 0, []
        for name in ('train', 'val'):
            loader = getattr(getattr(runner, f'{name}_loop'), 'dataloader', None)
            if not isinstance(loader, DataLoader) or not loader.num_workers:
                continue
            workers, needed = loader.num_workers * ranks, needs_of(loader).worker_bytes
            total += workers * needed
            size = max(needed / _MB, 1)
            parts.append(
                f'{workers} worker{"s" * (workers > 1)} x {size:.0f} MB ({name}_dataloader)'
            )
        free = free_memory()
        if not parts or free is None:
            return
        text = f'data loading takes about {" + ".join(parts)}; {free / _MB:.0f} MB are free'
        if total <= _SHARE * free:
            runner.logger.info(text)
            return
        runner.logger.warning(
            f'{text}. The system may kill the run for want of memory: lower num_workers, '
            'prefetch_factor or batch_size, or crop or scale images earlier in the pipeline'
        )


@dataclass(frozen=True)
class LoaderNeeds:
    """What a few samples of a data loader showed.

    Args:
        worker_bytes: What one of its processes takes.
        size_hw: Largest height and largest width of an input, None if inputs are no tensors.
        num_instances: Most objects in an image; 0 where there are none.
    """

    worker_bytes: int
    size_hw: tuple[int, int] | None
    num_instances: int


_known: WeakKeyDictionary[DataLoader[Any], LoaderNeeds] = WeakKeyDictionary()


def needs_of(loader: DataLoader[Any]) -> LoaderNeeds:
    """Look at samples of a data loader, spread over its data set; once for each loader.

    Args:
        loader: Its data set has a length.
    """
    if loader not in _known:
        _known[loader] = _look_at(loader)
    return _known[loader]


def _look_at(loader: DataLoader[Any]) -> LoaderNeeds:
    dataset: Any = loader.dataset
    last, start = len(dataset) - 1, time.monotonic()
    peaks, lengths, sizes, counts = [0], [0], [], [0]
    first = [last * number // (_TRIED - 1) for number in range(_TRIED)]
    more = [last * number // (_LOOKED_AT - 1) for number in range(_LOOKED_AT)]
    for number, index in enumerate(dict.fromkeys([*first, *more])):
        # Pipelines draw sizes at random, so that many samples say more of the largest.
        if number >= _TRIED and time.monotonic() - start > _SECONDS:
            break
        if number < _TRIED:
            sample, peak = peak_of(partial(dataset.__getitem__, index))
            peaks.append(peak or 0)
            lengths.append(len(pickle.dumps(sample)))
        else:
            sample = dataset[index]
        sizes.append(_size_of(sample))
        counts.append(_instances_of(sample))
    ahead = (loader.prefetch_factor or 0) * batch_size_of(loader)
    known = [size for size in sizes if size is not None]
    size = (max(h for h, _ in known), max(w for _, w in known)) if known else None
    return LoaderNeeds(max(peaks) + ahead * max(lengths), size, max(counts))


def _size_of(sample: Any) -> tuple[int, int] | None:
    inputs = sample.get('inputs') if isinstance(sample, dict) else None
    shape: Any = getattr(inputs, 'shape', ())
    return (int(shape[-2]), int(shape[-1])) if len(shape) > 2 else None


def _instances_of(sample: Any) -> int:
    """Count the objects of an image, or those of the fullest frame."""
    found = sample.get('data_samples') if isinstance(sample, dict) else None
    images = getattr(found, 'video_data_samples', [found])
    return max((len(getattr(image, 'gt_instances', ())) for image in images), default=0)
