"""How much memory is free, and how much something takes at its peak. Linux; elsewhere unknown."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_KB = 1024
_PROC = Path('/proc')
_CGROUPS = Path('/sys/fs/cgroup')


def free_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Return the bytes that may still be taken before the kernel kills something.

    That is what the machine has, or less in a container or a job with a limit (cgroup version 2).

    Args:
        proc: Where the kernel describes processes.
        cgroups: Where it describes groups of them.

    Returns:
        Bytes, None if they cannot be known.
    """
    available = _field(proc / 'meminfo', 'MemAvailable')
    if available is None:
        return None
    return min([available, *_room_in_groups(proc, cgroups)])


def used_memory() -> int | None:
    """Return the bytes this process holds in memory, None if they cannot be known."""
    return _field(_PROC / 'self/status', 'VmRSS')


def peak_of(action: Callable[[], Any]) -> tuple[Any, int | None]:
    """Run something and measure how far the memory of this process rises above its start.

    Returns:
        What it returns, and bytes; None for these if the kernel does not tell.
    """
    status = _PROC / 'self/status'
    give_back()
    try:
        (_PROC / 'self/clear_refs').write_text('5')  # the peak starts anew
    except OSError:
        return action(), None
    before = _field(status, 'VmRSS')
    result = action()
    peak = _field(status, 'VmHWM')
    return result, None if before is None or peak is None else max(peak - before, 0)


def give_back() -> None:
    """Return freed memory to the system: what is taken from it again would not raise the peak."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # of the GNU C library
    if trim is not None:
        trim(0)


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f'{name}:')]
    return int(found[0]) * _KB if found else None


def _room_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield what is left in the group of this process and in those around it."""
    try:
        groups = (proc / 'self/cgroup').read_text().splitlines()
    except OSError:
        return
    inside = next((line[3:].strip('/') for line in groups if line.startswith('0::')), None)
    if inside is None:
        return
    for folder in (cgroups / inside, *(cgroups / inside).parents):
        try:
            limit = (folder / 'memory.max').read_text().strip()
            used = int((folder / 'memory.current').read_text())
        except OSError:
            limit, used = 'max', 0
        if limit != 'max':
            yield max(int(limit) - used, 0)
        if folder == cgroups:
            return
