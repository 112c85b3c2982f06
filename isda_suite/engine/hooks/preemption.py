"""Leave in good order when a scheduler asks for it."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.engine.errors import PreemptedError
from isda_suite.engine.ranks import on_any_rank
from isda_suite.engine.workers import SIGNALS, ObeyParentOnly
from isda_suite.registry import HOOKS

from .safe_checkpoint import SafeCheckpointHook

MARKER = 'preempted'
_SIGNAL_EXIT = 128


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Put the handlers of this process back as they were, also when a run fails."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1 save a checkpoint and end with the exit code 75.

    A signal only sets a flag. The ranks exchange it after each step, so that all leave after the
    same one. In a validation only the first process looks at it, between two batches, because the
    ranks are not in step there; the validation that is broken off is not repeated. A second signal
    ends the process at once. Data loading processes outlive signals to the whole process group.

    The file ``preempted`` in the work dir tells scripts that the run wants to be started again
    with ``--resume``; it is removed when a run starts. :func:`signals_given_back` belongs around
    the run.
    """

    # After the checkpoint hook has had its turn, and after the loaders of the run are made.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._caught: int | None = None
        self._training = False

    def before_train(self, runner: Any) -> None:
        """Watch for signals; works in the main thread only, elsewhere they are left alone."""
        self._training = True
        if is_main_process():
            (Path(runner.work_dir) / MARKER).unlink(missing_ok=True)
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            signal.signal(number, self._note)
        for loop in (runner.train_loop, runner.val_loop):
            loader = getattr(loop, 'dataloader', None)
            if isinstance(loader, DataLoader):
                loader.worker_init_fn = ObeyParentOnly(loader.worker_init_fn)

    def after_train(self, runner: Any) -> None:
        """Leave later validations and tests alone."""
        self._training = False

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Leave after this step if any rank was asked to.

        Raises:
            PreemptedError: when the state is saved.
        """
        if on_any_rank(self._caught is not None):
            self._leave(runner, runner.iter + 1)

    def after_val_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Leave between two batches of a validation during training.

        Raises:
            PreemptedError: when the state is saved.
        """
        if self._training and self._caught is not None and is_main_process():
            self._leave(runner, runner.iter, together=False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._caught is not None:
            os._exit(_SIGNAL_EXIT + number)
        self._caught = number

    def _leave(self, runner: Any, iteration: int, together: bool = True) -> None:
        saver = next((h for h in runner.hooks if isinstance(h, SafeCheckpointHook)), None)
        where = 'nothing was saved: this run has no checkpoint hook'
        if saver is not None:
            path = saver.save_preempted(runner, iteration)
            where = f'saved as {path}'
        if is_main_process():
            with write_atomically(Path(runner.work_dir) / MARKER, text=True) as file:
                file.write(f'{iteration}\n')
        if together:
            barrier()
        name = signal.Signals(self._caught).name if self._caught else 'a signal to another rank'
        raise PreemptedError(
            f'{name} after iteration {iteration}, {where}. Start the same command again with '
            '--resume to go on'
        )
