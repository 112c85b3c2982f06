"""Data loading processes: whose signals they obey, and when they end.

``timeout``, SLURM and terminals signal a whole process group. torch's workers die of SIGTERM unless
it comes from their parent, and the run then fails for want of data before it can save anything.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

#: What schedulers send; the training process answers with a checkpoint.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class ObeyParentOnly:
    """A ``worker_init_fn`` after which only the parent's SIGTERM ends a worker.

    Args:
        then: The ``worker_init_fn`` that is called afterwards, or None.
    """

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.then = then

    def __call__(self, worker_id: int) -> None:
        """Set up the worker process this is called in."""
        # A handler in Python is not told who sent the signal; whoever waits for it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_wait_for, args=(os.getppid(),), daemon=True).start()
        if self.then is not None:
            self.then(worker_id)


def _wait_for(parent: int) -> None:
    while True:
        caught = signal.sigwaitinfo(SIGNALS)
        if caught.si_pid == parent and caught.si_signo == signal.SIGTERM:
            os._exit(0)


def stop_workers(runner: Any) -> None:
    """End the data loading processes of a run that is over or has failed.

    torch ends them when their iterator is collected. After an error that may be never, and in a
    cycle of garbage it waits five seconds for each.

    Args:
        runner: mmengine's runner after training.
    """
    for loop in (runner.train_loop, runner.val_loop):
        loader = getattr(loop, 'dataloader', None)
        endless = getattr(loop, 'dataloader_iterator', None)
        for owner in (loader, endless):
            stop = getattr(getattr(owner, '_iterator', None), '_shutdown_workers', None)
            if stop is not None:
                stop()
