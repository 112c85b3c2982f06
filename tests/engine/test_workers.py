"""Data loading processes outlive signals that are not their parent's, but not their run."""

import os
import signal
import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from isda_suite.engine.workers import SIGNALS, ObeyParentOnly, stop_workers


class Started:
    """A `worker_init_fn` of the user."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, worker_id):
        (self.folder / str(worker_id)).touch()


@pytest.fixture
def batches(tmp_path):
    loader = DataLoader(
        TensorDataset(torch.arange(40)),
        num_workers=2,
        worker_init_fn=ObeyParentOnly(Started(tmp_path)),
    )
    iterator = iter(loader)
    yield iterator
    iterator._shutdown_workers()


def send_from_outside(number, *processes):
    subprocess.run(['kill', f'-{number}', *(str(p.pid) for p in processes)], check=True)


def test_workers_go_on_after_signals_of_others(batches):
    for _ in batches._workers:  # one batch of each, so both have been set up
        next(batches)
    for number in (*SIGNALS, *SIGNALS):
        send_from_outside(int(number), *batches._workers)
    assert [int(one) for (one,) in batches] == list(range(2, 40))


def test_workers_end_when_their_parent_says_so(batches):
    next(batches)
    worker = batches._workers[0]
    # torch would take the end of a worker for a failure of the run.
    batches._shutdown = True
    torch._C._remove_worker_pids(id(batches))
    os.kill(worker.pid, signal.SIGUSR1)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(timeout=10)
    assert worker.exitcode == 0


def test_a_function_of_the_user_is_called_too(batches, tmp_path):
    list(batches)
    assert {path.name for path in tmp_path.iterdir()} == {'0', '1'}


def test_the_processes_end_with_the_run():
    loader = DataLoader(TensorDataset(torch.arange(40)), num_workers=1, persistent_workers=True)
    next(iter(loader))
    (worker,) = loader._iterator._workers
    val_loop = SimpleNamespace(dataloader=DataLoader(TensorDataset(torch.arange(4))))
    stop_workers(SimpleNamespace(train_loop=SimpleNamespace(dataloader=loader), val_loop=val_loop))
    assert worker.exitcode == 0
