"""Compile the operators ahead of time into the user's cache.

For installations without a library beside the package: a wheel made without torch, or an upgraded
torch. Never started by an import.
"""

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from isda_suite.resources import resource_root

from . import toolchain
from .library import cache_prefix, cache_root, read_record


class CompileError(RuntimeError):
    """Compiling failed; the compiler's own message has been printed."""


def build(verbose: bool = False) -> Path:
    """Compile csrc/ for the torch in use; take the library from the cache if it is there.

    One folder per sources, torch, CUDA and architectures; a lock lets only one process build.
    The next process that imports the operators uses the result.

    Args:
        verbose: Whether to show the compiler's command lines.

    Returns:
        The library's path.

    Raises:
        RuntimeError: if there is no compiler, or FORCE_CUDA=1 cannot be met.
        CompileError: if compiling fails.
    """
    if toolchain.find_compiler() is None:
        raise RuntimeError('no C++ compiler found: install g++ (or set CXX) and try again')
    plan = toolchain.make_plan(torch.__version__, torch.version.cuda)
    try:
        return _build_plan(plan, verbose)
    except CompileError:
        if not plan.with_cuda or toolchain.flag('FORCE_CUDA') or toolchain.flag('ISDA_REQUIRE_OPS'):
            raise
        reason = f'compiling the CUDA kernels failed with the toolkit in {plan.cuda_home}'
        print(f'{reason}; building for the CPU alone.', file=sys.stderr)
    return _build_plan(plan.without_cuda(reason), verbose)


def _build_plan(plan: toolchain.Plan, verbose: bool) -> Path:
    csrc = resource_root() / 'csrc'
    device = f'cuda{plan.cuda_version}' if plan.with_cuda else 'cpu'
    archs = plan.cuda_archs.replace(';', '_')
    folder = cache_root() / f'{cache_prefix(csrc)}{device}{archs and "-" + archs}'
    library = folder / 'isda_suite_ops.so'
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'building').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_complete(library):
            print(f'{library} is up to date.')
            return library
        # Left by an interrupted build; torch's builder would wait for it for ever.
        (folder / 'lock').unlink(missing_ok=True)
        kinds = 'CPU and CUDA' if plan.with_cuda else 'CPU'
        print(f'Compiling the {kinds} operators into {folder} (one to five minutes) ...')
        start = time.monotonic()
        _compile(plan, csrc, folder, library.stem, verbose)
        toolchain.write_record(folder, reason=plan.reason)
        print(f'Done in {time.monotonic() - start:.0f} s.')
    return library


def _is_complete(library: Path) -> bool:
    """Whether an earlier build got to its end."""
    try:
        read_record(library)
    except (OSError, ValueError):
        library.unlink(missing_ok=True)
        return False
    return True


def _sources_with_own_names(sources: list[str], csrc: Path, folder: Path) -> list[str]:
    """Write a file for every source that includes it, and return their paths.

    torch names object files after the source alone, and there is a ``checks.cpp`` in every folder.
    """
    paths = []
    for source in sources:
        path = folder / source.replace('/', '_')
        path.write_text(f'#include {json.dumps(str(csrc / source))}\n')
        paths.append(str(path))
    return paths


def _compile(plan: toolchain.Plan, csrc: Path, folder: Path, name: str, verbose: bool) -> None:
    """Run the compiler in a fresh process: loading a second library would define the ops twice."""
    flags = toolchain.compile_arguments(plan)
    job = {
        'name': name,
        'sources': _sources_with_own_names(toolchain.sources(plan), csrc, folder),
        'extra_cflags': flags['cxx'],
        'extra_cuda_cflags': flags['nvcc'],
        'extra_ldflags': flags['link'],
        'build_directory': str(folder),
        'with_cuda': plan.with_cuda,
        'verbose': verbose,
    }
    toolchain.prepare_environment(plan)
    program = (
        'import json, sys\n'
        'from torch.utils import cpp_extension\n'
        'cpp_extension.load(**json.load(sys.stdin), is_python_module=False)\n'
    )
    command = [sys.executable, '-c', program]
    done = subprocess.run(command, input=json.dumps(job), text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f'the compiler gave up (exit code {done.returncode}), see above')
