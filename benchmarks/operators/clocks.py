"""Time and memory of calls, on the CPU and on a GPU.

The calls of all implementations alternate in blocks: A A A B B B A A A B B B.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

Call = Callable[[], Any]
BLOCK = 3
_GOOD_TIME_S = 2.0  # short calls get more blocks, until they fill this
_MOST_BLOCKS = 20
_REPLAYS = 4  # between two events, so that starting them does not count


class Timing(NamedTuple):
    """Milliseconds of single calls; ``cpu`` is empty on a GPU."""

    wall: list[float]
    cpu: list[float]

    def medians(self) -> tuple[float, float | None]:
        """Return the medians of wall and CPU time."""
        return statistics.median(self.wall), statistics.median(self.cpu) if self.cpu else None

    def minima(self) -> tuple[float, float | None]:
        """Return the minima of wall and CPU time."""
        return min(self.wall), min(self.cpu) if self.cpu else None

    def steady(self) -> bool | None:
        """Whether wall and CPU time of one thread agree within 5 %; ``None`` on a GPU."""
        wall, cpu = self.medians()
        return None if cpu is None else abs(wall - cpu) <= 0.05 * cpu


def time_on_cpu(calls: dict[str, Call]) -> dict[str, Timing]:
    """Time calls that have been warmed up.

    Args:
        calls: what to call under each name, in the order of the blocks.
    """
    timings = {name: Timing([], []) for name in calls}

    def run_block(name: str) -> None:
        for _ in range(BLOCK):
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name]()
            timings[name].wall.append((time.perf_counter() - wall) * 1e3)
            timings[name].cpu.append((time.process_time() - cpu) * 1e3)

    _alternate(run_block, calls)
    return timings


def time_on_gpu(replays: dict[str, Call], sets: int) -> dict[str, Timing]:
    """Time replays of graphs with events.

    Args:
        replays: for each name, what runs it once on every set of operands. The sets together are
            larger than the L2 cache, so no call finds its operands there.
        sets: their number.
    """
    timings = {name: Timing([], []) for name in replays}

    def run_block(name: str) -> None:
        for _ in range(BLOCK):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(_REPLAYS):
                replays[name]()
            end.record()
            end.synchronize()
            timings[name].wall.append(start.elapsed_time(end) / (sets * _REPLAYS))

    _alternate(run_block, replays)
    return timings


def _alternate(run_block: Callable[[str], None], names: dict[str, Any]) -> None:
    """Run two blocks of every name in turn, and more of them if that took little time."""
    gc.collect()
    start, rounds = time.perf_counter(), 0
    while rounds < 2 or (rounds < _MOST_BLOCKS and time.perf_counter() - start < _GOOD_TIME_S):
        for name in names:
            run_block(name)
        rounds += 1


def graph_of(call: Call) -> Call:
    """Record a call on a GPU; returns what replays it.

    The pool of the graph keeps the results, so they may not be used after the next replay.

    Raises:
        RuntimeError: if the call synchronises or does something else that cannot be recorded.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak_memory_mb(call: Call, device: str) -> float | None:
    """Return the memory (10^6 bytes) a call needs at its peak beyond what was there, with results.

    Returns:
        ``None`` on a system that does not tell.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        # Freed memory that the allocator keeps would hide what the call needs.
        ctypes.CDLL('libc.so.6').malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
        before = _resident_kib('VmRSS')
        call()
        return (_resident_kib('VmHWM') - before) * 1024 / 1e6
    except OSError:
        return None


def _resident_kib(key: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
