"""Memory is measured and compared with what is free before it runs out."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from isda_suite.engine.hooks import LoaderMemoryHook, loader_memory
from isda_suite.engine.memory import free_memory, peak_of, used_memory

SIDE = 6000  # above 32 MB the C library takes memory from the system each time
IMAGE_BYTES = SIDE * SIDE


class Images:
    """Samples of 36 MB that take twice as much while they are made."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError
        image = np.full((SIDE, SIDE), index, np.uint8)
        return image + np.ones_like(image)


def test_a_peak_is_measured_though_it_is_gone_afterwards():
    size, peak = peak_of(lambda: len(np.ones(100_000_000, np.uint8).tobytes()))
    assert size == 100_000_000
    assert 150e6 < peak < 250e6


def test_memory_that_was_freed_before_does_not_hide_a_peak():
    pieces = [np.ones(30_000, np.uint8) for _ in range(3000)]  # too small to go back by themselves
    last = pieces[-1]
    del pieces
    _, peak = peak_of(lambda: [np.ones(30_000, np.uint8) for _ in range(2000)] and None)
    assert peak > 50e6 and last.any()


@pytest.fixture
def machine(tmp_path):
    """A machine with 1000 KB free on which this process is in the group a/b."""
    groups = tmp_path / 'cgroup'
    (groups / 'a/b').mkdir(parents=True)
    (tmp_path / 'self').mkdir()
    (tmp_path / 'self/cgroup').write_text('0::/a/b\n')
    (tmp_path / 'meminfo').write_text('MemTotal: 2000 kB\nMemAvailable:   1000 kB\n')
    return tmp_path


def test_the_limit_of_a_surrounding_group_counts(machine):
    groups = machine / 'cgroup'
    assert free_memory(machine, groups) == 1000 * 1024
    (groups / 'a/b/memory.max').write_text('max\n')
    (groups / 'a/b/memory.current').write_text('1\n')
    (groups / 'a/memory.max').write_text('5000\n')
    (groups / 'a/memory.current').write_text('2000\n')
    assert free_memory(machine, groups) == 3000


def test_a_system_that_does_not_tell_is_no_error(tmp_path):
    assert free_memory(tmp_path, tmp_path) is None


@pytest.fixture
def runner():
    loader = DataLoader(Images(), batch_size=2, num_workers=3, prefetch_factor=4)
    return SimpleNamespace(
        train_loop=SimpleNamespace(dataloader=loader),
        val_loop=SimpleNamespace(dataloader=DataLoader(Images())),
        logger=logging.getLogger('test_memory'),
    )


def logged(runner, monkeypatch, caplog, free):
    monkeypatch.setattr(loader_memory, 'free_memory', lambda: free)
    with caplog.at_level(logging.INFO):
        LoaderMemoryHook().before_train(runner)
    return caplog.records


def test_the_estimate_is_logged(runner, monkeypatch, caplog):
    (record,) = logged(runner, monkeypatch, caplog, free=10**12)
    assert record.levelname == 'INFO'
    assert 'data loading takes about 3 workers x' in record.message
    # Four batches of two wait, and one sample is being made.
    estimate = float(record.message.split(' x ')[1].split()[0]) * 1e6
    assert 8 * IMAGE_BYTES <= estimate <= 12 * IMAGE_BYTES


def test_more_than_half_of_what_is_free_is_a_warning(runner, monkeypatch, caplog):
    (record,) = logged(runner, monkeypatch, caplog, free=3 * 10 * IMAGE_BYTES)
    assert record.levelname == 'WARNING'
    assert 'lower num_workers' in record.message


def test_loading_in_the_main_process_needs_no_estimate(runner, monkeypatch, caplog):
    runner.train_loop = runner.val_loop
    assert not logged(runner, monkeypatch, caplog, free=1)


def test_what_this_process_holds_grows_with_what_it_holds():
    peak_of(lambda: None)  # freed memory, which would be taken first, goes back
    before = used_memory()
    held = np.ones(64 << 20, np.uint8)
    assert used_memory() - before > len(held) * 0.9
