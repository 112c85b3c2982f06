"""Samplers for tests on videos."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from isda_suite.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class VideoSampler(Sampler[int]):
    """Give each process whole videos: all clips of a video, in order, nothing twice.

    Videos go, the longest first, to the process that has the fewest clips so far. With fewer
    videos than processes some have nothing to do; they only take part in the evaluation.

    Args:
        dataset: Data set whose records name a ``video_id``; those of a video follow each other.
        seed: Accepted because mmengine's runner gives one; nothing is random.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        self.rank, world_size = get_dist_info()
        videos = [dataset.get_data_info(index)['video_id'] for index in range(len(dataset))]
        groups = [list(group) for _, group in groupby(range(len(videos)), videos.__getitem__)]
        loads = [0] * world_size
        parts: list[list[list[int]]] = [[] for _ in loads]
        for group in sorted(groups, key=len, reverse=True):
            least = loads.index(min(loads))
            loads[least] += len(group)
            parts[least].append(group)
        self.indices = [index for group in sorted(parts[self.rank]) for index in group]

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Return the number of clips of this process."""
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every pass is the same."""
