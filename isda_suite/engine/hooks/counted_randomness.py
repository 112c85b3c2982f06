"""A hook that makes a resumed run continue the curve of the run that never stopped."""

from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import IterableDataset

from isda_suite.engine.counted_randomness import (
    EndlessBatches,
    count_samples,
    reseed_samplers,
    seed_step,
)
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class CountedRandomnessHook(Hook):
    """Seed every step and every training sample by its number.

    On the CPU the losses of a resumed run are bit-equal to those of an uninterrupted one, for any
    number of workers. On a GPU that needs ``--deterministic`` too, and operators with a
    deterministic backward pass; otherwise values agree to rounding.

    Loops and loaders of other kinds (an iterable data set, a loop that is neither epoch- nor
    iteration-based) are left as they are.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        """Put the counted loader in the place of the loop's."""
        loop = runner.train_loop
        loader = getattr(loop, 'dataloader', None)
        known = isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop)
        # Without a batch sampler the data set itself decides what a batch is.
        if not known or loader is None or loader.batch_sampler is None:
            return
        if isinstance(loader.dataset, IterableDataset):
            return
        samplers = [loader.sampler, getattr(loader.batch_sampler, 'sampler', None)]
        reseed_samplers([s for s in samplers if s is not None], runner.seed)
        loop.dataloader = count_samples(loader, runner.seed, get_rank(), get_world_size())
        batches = loop.dataloader.batch_sampler
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = EndlessBatches(loop.dataloader)
            return
        batches.first = loop.iter
        # A run that was preempted goes on in the middle of its epoch.
        batches.skipped = loop.iter - loop.epoch * len(batches)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step."""
        seed_step(runner.seed, runner.iter, get_rank())
