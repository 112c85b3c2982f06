"""A tool that ends as a rank of two while a native frame below it still calls Python.

Arguments: a folder both ranks know, the rank, the exit code.
"""

import atexit
import sys
import tempfile
import threading
import time
from pathlib import Path

from isda_suite.engine.errors import PreemptedError
from isda_suite.engine.exit_codes import DONE, leave, run_tool


def main():
    import torch
    import torch.distributed as dist

    folder, rank, code = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    dist.barrier()
    _linger(torch)
    _leave_work(folder, rank)
    print('printed')
    if code != DONE:
        raise PreemptedError('enough')


def _linger(torch):
    """Let a backward pass call Python again and again, whatever happens to the process."""
    started = threading.Event()

    def wait_on(gradient):
        started.set()
        while True:
            time.sleep(1e-4)

    def backward():
        value = torch.ones(1, requires_grad=True)
        value.register_hook(wait_on)
        (value * 2).sum().backward()

    threading.Thread(target=backward, daemon=True).start()
    started.wait()


def _leave_work(folder, rank):
    """Leave undone what Python does at its end."""
    global unclosed, temporary
    unclosed = (folder / f'unclosed_{rank}').open('w')
    unclosed.write('all of it')
    temporary = tempfile.TemporaryDirectory(dir=folder, prefix='temporary')
    atexit.register((folder / f'atexit_{rank}').touch)

    def work():
        time.sleep(0.5)
        (folder / f'thread_{rank}').touch()

    threading.Thread(target=work).start()


if __name__ == '__main__':
    leave(run_tool(main))
