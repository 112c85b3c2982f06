"""Examine the installation: versions, operators, devices, extras, and what is wrong."""

import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from isda_suite.compat.import_hook import EXTENSION_NAME, ORIGIN
from isda_suite.engine.memory import free_memory

from .installation import (
    DISTRIBUTION,
    Problem,
    distribution_problems,
    extras,
    import_libraries,
    machine_problems,
    probe_problems,
    python_problems,
    resource_problems,
    wanted_distributions,
)
from .zoo import cache_folder

_TOLERANCE = 1e-3


def examine() -> dict[str, Any]:
    """Examine the installation.

    Returns:
        ``versions`` (python, this package, every library and distribution), ``operators`` (what
        ``isda_suite.ops.info()`` says, empty if it cannot be asked), ``devices``, ``compilers``,
        ``extras``, ``folders``, ``problems``: each with ``what``, ``remedy`` and ``fatal``; and
        ``works``: whether none is fatal.
    """
    from isda_suite import __version__

    wanted = wanted_distributions()
    libraries, broken = import_libraries()
    operators, found = _operators(libraries)
    missing = list(distribution_problems(wanted))
    if any(problem.what.endswith('is not installed') for problem in missing):
        # Said already, in words that name what to install.
        broken = [one for one in broken if 'ModuleNotFoundError' not in one.what]
    problems = [
        *python_problems(),
        *missing,
        *broken,
        *probe_problems(libraries),
        *found,
        *resource_problems(),
        *machine_problems(cache_folder()),
    ]
    problems.sort(key=lambda one: not one.fatal)
    return {
        'versions': {
            'python': platform.python_version(),
            'system': platform.platform(),
            DISTRIBUTION: __version__,
            **libraries,
            **_mmcv_operators(libraries),
        },
        'distributions': {one.name: one.found for one in wanted if not one.extra},
        'operators': operators,
        'devices': _devices(libraries),
        'compilers': _compilers(),
        'extras': extras(wanted),
        'folders': _folders(),
        'problems': [vars(problem) for problem in problems],
        'works': not any(problem.fatal for problem in problems),
    }


def _operators(libraries: dict[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the report of the operators, and what is wrong with them."""
    if 'torch' not in libraries:
        return {}, []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', RuntimeWarning)  # what it says is in the report too
            from isda_suite.ops import info

        report = info()
        _require_right_result()
    except Exception as error:  # a library of another torch can fail in any way
        what = f'the operators cannot be used: {type(error).__name__}: {error}'
        variable = re.search(r'ISDA_[A-Z_]+', str(error))
        return {}, [Problem(what, f'{_BUILD}{f", or unset {variable[0]}" if variable else ""}')]
    return report, list(_slow_operators(report))


def _mmcv_operators(libraries: dict[str, str]) -> dict[str, str]:
    """Say whether mmcv brings its compiled operators or ours stand in for them."""
    if 'mmcv' not in libraries:
        return {}
    spec = find_spec(EXTENSION_NAME)
    found = 'none' if spec is None else 'compiled' if spec.origin != ORIGIN else ORIGIN
    return {"mmcv's operators": found}


_BUILD = f'python -m {DISTRIBUTION}.ops build (needs a C++ compiler; with nvcc also for the GPU)'


def _slow_operators(report: dict[str, Any]) -> Iterator[Problem]:
    for device in ('cpu', 'cuda'):
        if device == 'cuda' and not report['gpu']:
            continue
        slow = [name for name, kinds in report['ops'].items() if kinds[device] != 'compiled']
        if slow:
            reason = report['slower'][slow[0]][device]
            what = f'on the {device} the operators {", ".join(slow)} run on plain PyTorch: {reason}'
            yield Problem(what, _BUILD, fatal=False)
    if report['gpu'] and report['cuda_archs'] and report['cuda_arch'] is None:
        yield Problem(str(report['gpu_reason']), _BUILD, fatal=False)


def _require_right_result() -> None:
    """Run one operator where the result is known: sampled at its centre, a pixel is itself."""
    import torch

    from isda_suite.ops import ms_deform_attn

    side = 4
    value = torch.arange(side * side * 8, dtype=torch.float32).view(1, side * side, 2, 4)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    centres = (torch.stack([columns, rows], -1).view(1, -1, 1, 1, 1, 2) + 0.5) / side
    found = ms_deform_attn(
        value,
        torch.tensor([[side, side]]),
        torch.tensor([0]),
        centres.expand(-1, -1, 2, -1, -1, -1).contiguous(),
        torch.ones(1, side * side, 2, 1, 1),
    )
    error = float((found - value.flatten(2)).abs().max())
    if not error < _TOLERANCE:
        raise RuntimeError(
            f'ms_deform_attn is off by {error:.1e}: the library was compiled for another torch or '
            'processor'
        )


def _devices(libraries: dict[str, str]) -> dict[str, Any]:
    """Return what can compute."""
    free = free_memory()
    found: dict[str, Any] = {
        'cpu': {
            'cores': len(os.sched_getaffinity(0))
            if hasattr(os, 'sched_getaffinity')
            else os.cpu_count(),
            'free_memory_gb': None if free is None else round(free / 1e9, 1),
        },
        'cuda': [],
    }
    if 'torch' not in libraries:
        return found
    import torch

    found['cpu']['threads'] = torch.get_num_threads()
    found['torch_cuda'] = torch.version.cuda
    for index in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(index)
        found['cuda'].append(
            {
                'name': one.name,
                'capability': f'{one.major}.{one.minor}',
                'memory_gb': round(one.total_memory / 1e9, 1),
            }
        )
    return found


def _compilers() -> dict[str, str | None]:
    """Return the programs that compile the operators."""
    names = [os.environ.get('CXX') or '', 'g++', 'c++', 'clang++']
    nvcc = os.path.join(os.environ.get('CUDA_HOME') or '/usr/local/cuda', 'bin', 'nvcc')
    return {
        'c++': next(filter(None, map(shutil.which, filter(None, names))), None),
        'nvcc': shutil.which('nvcc') or shutil.which(nvcc),
        'ninja': shutil.which('ninja'),
    }


def _folders() -> dict[str, str]:
    import isda_suite

    return {
        'package': str(next(iter(isda_suite.__path__))),
        'python': sys.prefix,
        'cache': str(cache_folder()),
    }


def describe(report: dict[str, Any]) -> str:
    """Write the report of :func:`examine` as text, problems last."""
    lines = ['Versions', *_rows(report['versions'])]
    lines += ['', 'Operators']
    variants = report['operators'] and {
        'cpu': report['operators']['cpu_isa'],
        'cuda': report['operators']['cuda_arch'],
    }
    for name, kinds in report['operators'].get('ops', {}).items():
        parts = [
            f'{device}: {kind}' + (f' ({variants[device]})' if kind == 'compiled' else '')
            for device, kind in kinds.items()
            if device == 'cpu' or report['operators']['gpu']
        ]
        lines += _rows({name: ', '.join(parts)})
    if not report['operators']:
        lines.append('  none can be used')
    lines += ['', 'Devices', *_rows(_device_rows(report))]
    lines += ['', 'Compilers', *_rows({k: v or 'none' for k, v in report['compilers'].items()})]
    lines += ['', 'Optional extras', *_rows(_extra_rows(report['extras']))]
    lines += ['', 'Folders', *_rows(report['folders']), '']
    for problem in report['problems']:
        kind = 'WRONG' if problem['fatal'] else 'note'
        lines += [f'{kind}: {problem["what"]}', f'  -> {problem["remedy"]}']
    lines.append('The installation works.' if report['works'] else 'The installation is broken.')
    return '\n'.join(lines)


def _rows(table: dict[str, Any]) -> list[str]:
    return [f'  {name:<21} {value}' for name, value in table.items()]


def _device_rows(report: dict[str, Any]) -> dict[str, str]:
    cpu = report['devices']['cpu']
    rows = {'cpu': f'{cpu["cores"]} cores, {cpu["free_memory_gb"]} GB of memory free'}
    for index, gpu in enumerate(report['devices']['cuda']):
        rows[f'cuda:{index}'] = f'{gpu["name"]} ({gpu["capability"]}), {gpu["memory_gb"]} GB'
    if not report['devices']['cuda']:
        rows['cuda'] = f'none: {report["operators"].get("gpu_reason") or "torch sees no GPU"}'
    return rows


def _extra_rows(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        name: 'complete'
        if parts['complete']
        else f"missing {', '.join(parts['missing'])}: pip install '{DISTRIBUTION}[{name}]'"
        for name, parts in found.items()
    }
