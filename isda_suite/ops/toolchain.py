"""What it takes to compile csrc/: sources, flags, and whether a CUDA toolkit fits.

Standard library only and no import of the package: setup.py loads this file by its path, before
the package or torch can be imported.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_CUDA_ARCHS = '8.0;9.0+PTX'
LIBRARY_NAME = '_C.abi3.so'
RECORD_NAME = '_build.json'
"""Beside the library, or in its place: why something was not built."""

CPU_SOURCES = (
    'registration.cpp',
    'cpu_isa.cpp',
    'operand_checks.cpp',
    'fixed_point.cpp',
    'matrix_products.cpp',
    'deform_conv2d/checks.cpp',
    'deform_conv2d/cpu.cpp',
    'deform_conv2d/cpu_generic.cpp',
    'deform_conv2d/cpu_avx2.cpp',
    'deform_conv2d/cpu_avx512.cpp',
    'deform_conv2d/slices.cpp',
    'deform_conv2d/cuda_body_on_host.cpp',
    'ms_deform_attn/checks.cpp',
    'ms_deform_attn/cpu.cpp',
    'ms_deform_attn/cpu_generic.cpp',
    'ms_deform_attn/cpu_avx2.cpp',
    'ms_deform_attn/cpu_avx512.cpp',
    'ms_deform_attn/cuda_body_on_host.cpp',
    'ms_deform_attn_fused/checks.cpp',
    'ms_deform_attn_fused/cpu.cpp',
    'ms_deform_attn_fused/cpu_generic.cpp',
    'ms_deform_attn_fused/cpu_avx2.cpp',
    'ms_deform_attn_fused/cpu_avx512.cpp',
    'ms_deform_attn_fused/cuda_body_on_host.cpp',
)
CUDA_SOURCES = (
    'deform_conv2d/cuda.cpp',
    'deform_conv2d/cuda_kernel.cu',
    'ms_deform_attn/cuda.cpp',
    'ms_deform_attn/cuda_forward_kernel.cu',
    'ms_deform_attn/cuda_backward_kernel.cu',
    'ms_deform_attn/cuda_levels.cpp',
    'ms_deform_attn_fused/cuda.cpp',
    'ms_deform_attn_fused/cuda_forward_kernel.cu',
    'ms_deform_attn_fused/cuda_backward_kernel.cu',
)


@dataclass(frozen=True)
class Plan:
    """What to compile. ``cuda_home`` is ``None`` for CPU only, and then ``reason`` says why."""

    torch_version: str
    cuda_version: str | None = None
    cuda_home: str | None = None
    cuda_archs: str = ''
    reason: str | None = None

    @property
    def with_cuda(self) -> bool:
        """Whether CUDA kernels are compiled."""
        return self.cuda_home is not None

    def without_cuda(self, reason: str) -> 'Plan':
        """Return the same plan for the CPU alone."""
        return Plan(self.torch_version, self.cuda_version, reason=reason)


def flag(name: str) -> bool | None:
    """Read a switch from the environment: 1 is True, 0 is False, unset or ``auto`` is None.

    Raises:
        ValueError: for any other value.
    """
    text = os.environ.get(name, 'auto').strip().lower()
    if text in ('1', 'true', 'on', 'yes'):
        return True
    if text in ('0', 'false', 'off', 'no'):
        return False
    if text in ('', 'auto'):
        return None
    raise ValueError(f'environment variable {name}: expected 0, 1 or auto, got {text!r}')


def sources(plan: Plan) -> list[str]:
    """Return the files to compile, relative to csrc/."""
    return [*CPU_SOURCES, *(CUDA_SOURCES if plan.with_cuda else ())]


def source_hash(csrc: Path) -> str:
    """Return a short hash of everything in csrc/ that is compiled."""
    digest = hashlib.sha256()
    for path in sorted(csrc.rglob('*')):
        if path.suffix in ('.h', '.cpp', '.cu'):
            digest.update(path.relative_to(csrc).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def find_cuda_home() -> Path | None:
    """Find the root of the CUDA toolkit, also where ``nvcc`` on PATH is only a wrapper script."""
    for name in ('CUDA_HOME', 'CUDA_PATH'):
        if os.environ.get(name):
            return Path(os.environ[name])
    nvcc = shutil.which('nvcc')
    candidates = [*_home_from_dry_run(nvcc), Path(nvcc).resolve().parent.parent] if nvcc else []
    local = sorted(Path('/usr/local').glob('cuda-*'), reverse=True)
    candidates += [Path('/usr/local/cuda'), *local]
    for home in candidates:
        if (home / 'bin' / 'nvcc').is_file() and (home / 'include' / 'cuda_runtime.h').is_file():
            return home
    return None


def _home_from_dry_run(nvcc: str) -> list[Path]:
    """Ask nvcc itself: a dry run prints ``#$ TOP=...``."""
    try:
        done = subprocess.run(
            [nvcc, '--dryrun', '-x', 'cu', '-E', os.devnull],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = re.search(r'^#\$ TOP=(.+)$', done.stderr, re.MULTILINE)
    return [Path(found[1].strip()).resolve()] if found else []


def toolkit_version(home: Path) -> str | None:
    """Return the toolkit's version as ``'13.0'``, or ``None`` if its nvcc does not run."""
    try:
        done = subprocess.run(
            [str(home / 'bin' / 'nvcc'), '--version'],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'release (\d+\.\d+)', done.stdout)
    return found[1] if found else None


def find_compiler() -> str | None:
    """Return the C++ compiler that torch will call, or ``None``."""
    return shutil.which(os.environ.get('CXX', 'c++').split()[0])


def make_plan(torch_version: str, torch_cuda: str | None) -> Plan:
    """Decide whether CUDA kernels are compiled.

    Args:
        torch_version: ``torch.__version__``.
        torch_cuda: ``torch.version.cuda``.

    Raises:
        RuntimeError: if FORCE_CUDA=1 and it is not possible.
    """
    plan = Plan(torch_version, torch_cuda)
    if flag('FORCE_CUDA') is False:
        return plan.without_cuda('FORCE_CUDA=0')
    home = find_cuda_home()
    version = toolkit_version(home) if home else None
    if torch_cuda is None:
        reason = f'torch {torch_version} is a build without CUDA'
    elif home is None:
        reason = f'no CUDA toolkit found for torch with CUDA {torch_cuda}; set CUDA_HOME'
    elif version is None:
        reason = f'{home} has no working bin/nvcc; set CUDA_HOME to the root of a CUDA toolkit'
    elif version.split('.')[0] != torch_cuda.split('.')[0]:
        reason = (
            f'torch was built with CUDA {torch_cuda} but the toolkit in {home} is {version}; '
            'set CUDA_HOME to one of the same major version'
        )
    else:
        archs = os.environ.get('TORCH_CUDA_ARCH_LIST') or DEFAULT_CUDA_ARCHS
        archs = ';'.join(re.split(r'[;,\s]+', archs.strip()))
        return Plan(torch_version, torch_cuda, str(home), archs)
    if flag('FORCE_CUDA'):
        raise RuntimeError(f'FORCE_CUDA=1, but the CUDA operators cannot be built: {reason}')
    return plan.without_cuda(reason)


def compile_arguments(plan: Plan) -> dict[str, list[str]]:
    """Return the flags for the C++ compiler, for nvcc and for the linker."""
    defines = [
        f'-DISDA_TORCH_VERSION={plan.torch_version}',
        f'-DISDA_CUDA_VERSION={plan.cuda_version if plan.with_cuda else "none"}',
        # No comma nor semicolon: nvcc and the shell would split it.
        f'-DISDA_CUDA_ARCHS={plan.cuda_archs.replace(";", "_") or "none"}',
    ]
    return {
        # Contraction is what makes a*b+c one instruction; NaN and infinity keep their meaning.
        'cxx': [
            '-O3',
            '-g0',
            '-fopenmp',
            '-fvisibility=hidden',
            '-fno-math-errno',
            '-fno-trapping-math',
            '-ffp-contract=fast',
            '-Wall',
            '-Wno-psabi',
            # Of gcc's own AVX-512 headers.
            '-Wno-maybe-uninitialized',
            *defines,
        ],
        'nvcc': ['-O3', '-Xcompiler', '-fvisibility=hidden', *defines],
        'link': ['-fopenmp'],
    }


def prepare_environment(plan: Plan) -> None:
    """Tell torch's extension builder what was found; it reads these when it is imported."""
    if plan.with_cuda:
        os.environ['CUDA_HOME'] = str(plan.cuda_home)
        os.environ['TORCH_CUDA_ARCH_LIST'] = plan.cuda_archs


def write_record(folder: Path, **entries: Any) -> None:
    """Write what was built and what was not, with the reason, beside the library."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_NAME).write_text(json.dumps(entries, indent=2) + '\n')
