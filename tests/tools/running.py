"""Run the tools as a user does: as processes."""

import os
import random
import resource
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**extra):
    """Return the variables for a process that finds the package and the tests."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    variables = {'PYTHONPATH': path, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    kept = {name: value for name, value in os.environ.items() if name not in ('RANK', 'LOCAL_RANK')}
    return {**kept, **variables, **extra}


def run(*command, cwd=None, timeout_s=240, **variables):
    """Run a command; returns its exit code, output and errors."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def free_port():
    """Return a port for ranks that are about to start.

    It lies below those that the system gives to connections, so nothing takes it until then.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(('127.0.0.1', port))
            except OSError:
                continue
        return port


def seconds_of_children():
    """Return the processor time of all processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_python(script, *arguments, **options):
    """Run a script of the repository, e.g. ``tools/train.py``."""
    return run(sys.executable, ROOT / script, *arguments, **options)
