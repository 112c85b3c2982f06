"""Run a program and its data loading processes, and watch how much memory all of them take."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PAUSE_S = 0.05


def run_watched(*words: Any, folder: Path) -> tuple[int, str]:
    """Run a Python program; return the most bytes that it held at one time, and its output.

    Alone, that is the peak that the kernel tells of a process that has ended. With processes of
    its own it is looked at twenty times a second: what they share counts once.

    Args:
        words: File of the program, and its arguments.
        folder: Working directory; the output is kept in it.

    Raises:
        RuntimeError: if the program fails.
    """
    variables = {**os.environ, 'ISDA_MEMORY_ESTIMATE': '0', 'OMP_NUM_THREADS': '1'}
    variables['PYTHONPATH'] = str(ROOT)
    with (folder / 'output.txt').open('w+') as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        watcher = _Watcher(process.pid)
        watcher.start()
        _, status, used = os.wait4(process.pid, 0)
        watcher.ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f'{words} ended with {process.returncode}:\n{text[-3000:]}')
    return max(used.ru_maxrss * 1024, watcher.peak), text


class _Watcher(threading.Thread):
    """Look at a process and its descendants; ``peak`` is of the times when there were some."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.ended = threading.Event()
        self._pid = pid

    def run(self) -> None:
        while not self.ended.wait(_PAUSE_S):
            family = list(_family(self._pid))
            if len(family) > 1:
                self.peak = max(self.peak, _bytes_of(family))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _bytes_of(family: list[int]) -> int:
    """Count memory of programs' own once, wherever it is shared; files mapped by the first."""
    total = 0
    for pid in family:
        try:
            lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]
        except OSError:  # it has ended
            continue
        found = {line.split()[0]: int(line.split()[1]) for line in lines}
        total += found.get('Pss_Anon:', 0) + found.get('Pss_Shmem:', 0)
        if pid == family[0]:
            total += found['Rss:'] - found['Anonymous:'] - found.get('Pss_Shmem:', 0)
    return total * 1024
