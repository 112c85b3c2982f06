"""What the operators run on."""

from typing import Any

import torch

from .library import LIBRARY

OPERATORS = ('deform_conv2d', 'ms_deform_attn', 'ms_deform_attn_fused')


def kernel_kind(operator: str, device: str) -> str:
    """Return ``'compiled'`` or ``'reference'`` for ``'CPU'`` or ``'CUDA'``."""
    found = torch._C._dispatch_has_kernel_for_dispatch_key(f'isda_suite::{operator}', device)
    return 'compiled' if found else 'reference'


def info() -> dict[str, Any]:
    """Report which kernels are in use.

    Returns:
        ``library`` (path or ``None``), ``reason`` (why there is none), ``torch`` and
        ``built_for_torch``, ``cpu_isa``, ``cuda_archs``, ``cuda_reason`` (why there are no
        compiled CUDA kernels), and ``ops``: operator -> device -> backend.
    """
    isa = torch.ops.isda_suite._cpu_isa() if LIBRARY.loaded else None
    archs = LIBRARY.record.get('cuda_archs', 'none')
    kinds = {
        operator: {device.lower(): kernel_kind(operator, device) for device in ('CPU', 'CUDA')}
        for operator in OPERATORS
    }
    return {
        'library': str(LIBRARY.path) if LIBRARY.loaded else None,
        'reason': LIBRARY.reason,
        'torch': torch.__version__,
        'built_for_torch': LIBRARY.record.get('torch'),
        'cpu_isa': isa,
        'cuda_archs': [] if archs == 'none' else archs.split('_'),
        'cuda_reason': None if kinds['ms_deform_attn']['cuda'] == 'compiled' else _cuda_reason(),
        'ops': kinds,
    }


def _cuda_reason() -> str:
    if not LIBRARY.loaded:
        return str(LIBRARY.reason)
    return LIBRARY.note() or 'the library was built for the CPU alone'
