"""Randomness that is counted, not carried: every draw has an address.

A run that goes on after a kill must draw what the run that never stopped would have drawn. Saving
the states of generators cannot do that: workers draw ahead, and their states live in other
processes. So no state is saved. Before iteration i the main process of rank r is seeded from
(seed, 0, i, r), and the pipeline of a training sample is seeded from (seed, 1, p), where p is the
sample's position in the whole stream of the run. The curve then depends neither on kills nor on the
number of workers.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

_STEP, _SAMPLE = 0, 1
_BITS = 32


def seed_everything(*address: int) -> None:
    """Seed ``random``, numpy and torch (all devices) from a tuple of integers."""
    words = np.random.SeedSequence([part % 2**_BITS for part in address]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    # torch.manual_seed would take 25 times as long: it asks for every kind of device there may be.
    torch.default_generator.manual_seed(int(words[2]))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(int(words[2]))


@dataclass(frozen=True)
class PositionedIndex:
    """An index into a data set that knows the position of its sample in the run's stream.

    Args:
        index: What the sampler gave: a number, or a video and a frame for mmdet's
            ``TrackImgSampler``.
        position: Samples of all ranks that come before it in the stream.
    """

    index: Any
    position: int


class PositionedBatches:
    """A batch sampler that numbers the samples of another one and can start late.

    Args:
        batches: The batch sampler.
        rank: Rank of this process.
        world_size: Number of processes.
        batch_size: Largest number of samples in a batch of one rank.

    Attributes:
        first: Number of the run's iteration that the next pass starts with.
        skipped: Batches to leave out at the start of the next pass; nothing is loaded for them.
    """

    def __init__(self, batches: Any, rank: int, world_size: int, batch_size: int) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size
        self.batch_size = batch_size
        self.first = 0
        self.skipped = 0

    @property
    def sampler(self) -> Any:
        """The sampler below, which mmengine tells the number of the epoch."""
        return getattr(self.batches, 'sampler', None)

    def __len__(self) -> int:
        """Return the number of batches of a whole pass."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[PositionedIndex]]:
        """Yield lists of indices that carry their positions."""
        number, skipped = self.first, self.skipped
        self.skipped = 0
        for count, batch in enumerate(self.batches):
            if count < skipped:
                continue
            start = number * self.batch_size
            yield [
                PositionedIndex(index, (start + slot) * self.world_size + self.rank)
                for slot, index in enumerate(batch)
            ]
            number += 1
        self.first = number


class CountedDataset:
    """A data set whose random numbers depend on the sample's position alone.

    Everything else is the data set inside.

    Args:
        dataset: The data set.
        seed: Seed of the run.
    """

    _OWN = ('inner', 'counted_seed')

    def __init__(self, dataset: Any, seed: int) -> None:
        self.inner = dataset
        self.counted_seed = seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inner)

    def __getitem__(self, index: Any) -> Any:
        """Load a sample after seeding for its position, and put the generators back."""
        if not isinstance(index, PositionedIndex):
            return self.inner[index]
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed_everything(self.counted_seed, _SAMPLE, index.position)
        try:
            return self.inner[index.index]
        finally:
            # In the main process (no workers) the draws of the training step go on undisturbed.
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])

    def __getattr__(self, name: str) -> Any:
        """Be the data set inside in everything else."""
        # Own names are asked for while a worker unpickles; batches are fetched one by one here.
        if name in (*self._OWN, '__getitems__'):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Hooks that change the pipeline change that of the data set inside."""
        if name in self._OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.inner, name, value)


def batch_size_of(loader: DataLoader[Any]) -> int:
    """Return the largest number of samples in a batch; batch samplers of their own know it."""
    return int(loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None) or 1)


def count_samples(loader: DataLoader[Any], seed: int, rank: int, world_size: int) -> Any:
    """Return a loader that gives the same batches with counted randomness.

    Args:
        loader: A loader of an indexed data set with a batch sampler.
        seed: Seed of the run.
        rank: Rank of this process.
        world_size: Number of processes.

    Returns:
        The new loader; its ``batch_sampler`` is a :class:`PositionedBatches`.
    """
    batches = PositionedBatches(loader.batch_sampler, rank, world_size, batch_size_of(loader))
    workers = loader.num_workers
    return DataLoader(
        CountedDataset(loader.dataset, seed),  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if workers else None,
        prefetch_factor=loader.prefetch_factor if workers else None,
        persistent_workers=loader.persistent_workers,
    )


class EndlessBatches(_InfiniteDataloaderIterator):
    """The endless iterator of an iteration-based loop; skipping loads nothing.

    Args:
        loader: From :func:`count_samples`.
    """

    def skip_iter(self, num_iters: int) -> None:
        """Start with the batch after ``num_iters`` batches."""
        batches: PositionedBatches = self._dataloader.batch_sampler
        batches.first, batches.skipped = num_iters, num_iters
        if not hasattr(batches.sampler, 'skip'):  # a sampler with an end, which starts over
            self._epoch, batches.skipped = divmod(num_iters, len(batches))
            batches.sampler.set_epoch(self._epoch)
        self._iterator = None


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed the main process for a training step."""
    seed_everything(seed, _STEP, iteration, rank)


def reseed_samplers(samplers: Sequence[Any], seed: int) -> None:
    """Give shuffling samplers the seed of the run that is resumed, which they were built before."""
    for sampler in samplers:
        if hasattr(sampler, 'seed'):
            sampler.seed = seed
        if hasattr(sampler, 'skip'):  # an endless stream is made when the sampler is
            sampler.skip(0)
