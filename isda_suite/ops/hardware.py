"""Why this machine does not run something faster: processor, driver, GPU."""

import ctypes
import os
import re

import torch

CPU_VARIANTS = ('avx512', 'avx2', 'generic')
"""Best first, as in csrc/cpu_isa.cpp."""

_NEEDS = {'avx512': 'AVX-512 (F, BW, DQ and VL)', 'avx2': 'AVX2 with FMA'}


def best_cpu_variant() -> str:
    """Return the best variant of the kernels that this processor can run; needs the library."""
    operators = torch.ops.isda_suite
    before = operators._use_cpu_isa('')
    best: str = operators._use_cpu_isa(before)
    return best


def cpu_reason(variant: str, best: str) -> str | None:
    """Say why the variant in use is not the fastest there is; ``None`` if it is.

    Args:
        variant: In use.
        best: What the processor could run.
    """
    if variant == CPU_VARIANTS[0]:
        return None
    if variant == best:
        return f'this processor has no {_NEEDS[CPU_VARIANTS[CPU_VARIANTS.index(best) - 1]]}'
    asked = os.environ.get('ISDA_OPS_CPU_ISA')
    cause = f'ISDA_OPS_CPU_ISA={asked}' if asked == variant else 'chosen by the program'
    return f'{cause}; this processor can run {best}'


def gpu_reason() -> str | None:
    """Say why PyTorch finds no NVIDIA GPU; ``None`` if it does."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f'torch {torch.__version__} is a build without CUDA'
    if not _driver_loads():
        return 'no NVIDIA driver: libcuda.so.1 cannot be loaded'
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return f'no GPU found with CUDA_VISIBLE_DEVICES={visible}'
    return f'no GPU found, or a driver too old for CUDA {torch.version.cuda}'


def _driver_loads() -> bool:
    try:
        ctypes.CDLL('libcuda.so.1')
    except OSError:
        return False
    return True


def matching_arch(archs: list[str], capability: tuple[int, int]) -> str | None:
    """Return the architecture whose code a GPU runs, ``None`` if there is none for it.

    Machine code serves the same major version from its minor version on, that with a letter one
    version alone; PTX serves everything newer.

    Args:
        archs: Of the library, as ``'9.0'``, ``'9.0a'`` or ``'9.0+PTX'``; names are not known here.
        capability: Of the GPU.
    """
    exact, ptx = {}, {}
    for arch in archs:
        found = re.fullmatch(r'(\d+)\.(\d+)([a-z]?)(\+PTX)?', arch)
        if not found:
            continue
        version = int(found[1]), int(found[2])
        if version == capability or (
            not found[3] and version[0] == capability[0] and version < capability
        ):
            exact[version] = arch
        elif found[4] and not found[3] and version < capability:
            ptx[version] = arch
    fitting = exact or ptx
    return fitting[max(fitting)] if fitting else None
