"""What is not one case beside its anchors: two threads, AVX2, the time to import and to build."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .cases import CASES, Case, ConvolutionCase
from .clocks import Call, peak_memory_mb, time_on_cpu
from .implementations import OURS, find
from .measure import Row, Settings, bind

_SCRIPT = Path(__file__).resolve().parent.parent / 'ops.py'
_IMPORTS = 9  # processes
_IMPORT = """
import importlib, os, sys, time, types, warnings
import torch
package = types.ModuleType('isda_suite.ops')  # without the modules, which load mmengine
package.__path__ = [importlib.import_module('isda_suite').__path__[0] + '/ops']
sys.modules['isda_suite.ops'] = package
with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    library = importlib.import_module('isda_suite.ops.library')
del os.environ['ISDA_OPS_LIBRARY']
start = time.perf_counter()
found = library.load()
took = time.perf_counter() - start
sys.exit(found.reason) if not found.loaded else print(took)
"""


def two_threads(settings: Settings) -> Iterator[Row]:
    """Measure ours with two threads beside one, in wall time.

    Convolutions of fewer than 128 channels have too little to share.
    """
    for name, case in CASES.items():
        if isinstance(case, ConvolutionCase) and case.channels < 128:
            continue
        if OURS not in find(case, 'cpu')[0]:
            continue
        for backward in (False, True):
            yield _two_threads(name, case, backward, settings)
    torch.set_num_threads(settings.threads)


def _two_threads(name: str, case: Case, backward: bool, settings: Settings) -> Row:
    ours = find(case, 'cpu')[0][OURS]
    operands = case.make('local', getattr(torch, settings.dtype))
    call = bind(ours, operands, case, backward, settings)

    def on(threads: int) -> Call:
        def run() -> Any:
            torch.set_num_threads(threads)
            return call()

        return run

    calls = {f'{OURS}, 1 thread': on(1), OURS: on(2)}
    for run in calls.values():
        run()
    peak = peak_memory_mb(calls[OURS], 'cpu')
    timings = time_on_cpu(calls)
    (one, _), (two, _) = (timing.medians() for timing in timings.values())
    return {
        'case': name,
        'pass': 'fwd+bwd' if backward else 'fwd',
        'sampling': 'local',
        'implementation': OURS,
        'device': 'cpu',
        'dtype': settings.dtype,
        'threads': 2,
        'isa': settings.isa,
        'clock': 'wall',
        'median_ms': two,
        'min_ms': timings[OURS].minima()[0],
        'peak_mb': peak,
        'ratio': {f'{OURS}, 1 thread': one / two},
        'calls': len(timings[OURS].wall),
    }


def avx2() -> list[Row]:
    """Measure the encoder with our AVX2 kernels, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'rows.json')
        arguments = ['--case', 'msda_encoder', '--sampling', 'local', '--isa', 'avx2']
        subprocess.run(
            [sys.executable, _SCRIPT, *arguments, '--json', out],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(out.read_text())['rows']


def _environment(**variables: str) -> dict[str, str]:
    """Return the variables for a process that finds the package."""
    path = [str(_SCRIPT.parent.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(path), **variables}


def import_ms() -> float:
    """Return what finding and loading the compiled library adds to an import of the operators.

    The median of fresh processes that have loaded all else before.

    Raises:
        SystemExit: if there is no library to load.
    """
    found = []
    for _ in range(_IMPORTS):
        said = subprocess.run(
            [sys.executable, '-c', _IMPORT],
            env=_environment(ISDA_OPS_LIBRARY=''),
            capture_output=True,
            text=True,
        )
        if said.returncode:
            raise SystemExit(f'--case import: {said.stderr.strip()}')
        found.append(float(said.stdout) * 1e3)
    return statistics.median(found)


def build_s() -> float:
    """Return the time to compile the whole library, all CPU variants and CUDA, from nothing."""
    with tempfile.TemporaryDirectory() as cache:
        environment = _environment(XDG_CACHE_HOME=cache)
        command = [sys.executable, '-W', 'ignore', '-m', 'isda_suite.ops', 'build']
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        return time.perf_counter() - start
