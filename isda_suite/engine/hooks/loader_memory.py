"""Say before the first step how much memory data loading will take."""

import os
import pickle
from functools import partial
from typing import Any

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from isda_suite.engine.counted_randomness import batch_size_of
from isda_suite.engine.memory import free_memory, peak_of
from isda_suite.registry import HOOKS

_TRIED = 3
_SHARE = 0.5
_MB = 1e6


@HOOKS.register_module()
class LoaderMemoryHook(Hook):
    """Estimate the memory of the data loading processes; warn above half of what is free.

    A worker holds the batches it has prepared, and beside them what its pipeline takes at its peak
    for one sample. Both are measured on three samples, spread over the data set.
    """

    priority = 'LOW'  # after the loaders of the run are made

    @master_only
    def before_train(self, runner: Any) -> None:
        """Log the estimate of all loaders of the training."""
        ranks = int(os.environ.get('LOCAL_WORLD_SIZE') or get_world_size())
        total, parts = 0, []
        for name in ('train', 'val'):
            loader = getattr(getattr(runner, f'{name}_loop'), 'dataloader', None)
            if not isinstance(loader, DataLoader) or not loader.num_workers:
                continue
            workers, needed = loader.num_workers * ranks, _worker_bytes(loader)
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


def _worker_bytes(loader: DataLoader[Any]) -> int:
    dataset: Any = loader.dataset
    last = len(dataset) - 1
    peaks, sizes = [0], [0]
    for index in sorted({last * number // (_TRIED - 1) for number in range(_TRIED)}):
        sample, peak = peak_of(partial(dataset.__getitem__, index))
        peaks.append(peak or 0)
        sizes.append(len(pickle.dumps(sample)))
    ahead = (loader.prefetch_factor or 0) * batch_size_of(loader)
    return max(peaks) + ahead * max(sizes)
