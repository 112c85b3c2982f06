"""What the operators run on, and why not on something faster."""

from typing import Any

import torch

from .hardware import best_cpu_variant, cpu_reason, gpu_reason, matching_arch
from .library import LIBRARY
from .mmcv_patch import mmcv_is_patched

OPERATORS = ('deform_conv2d', 'ms_deform_attn', 'ms_deform_attn_fused')


def kernel_kind(operator: str, device: str) -> str:
    """Return ``'compiled'`` or ``'reference'`` for ``'CPU'`` or ``'CUDA'``."""
    found = torch._C._dispatch_has_kernel_for_dispatch_key(f'isda_suite::{operator}', device)
    return 'compiled' if found else 'reference'


def info() -> dict[str, Any]:
    """Report which kernels are in use, and why no faster ones.

    Returns:
        ``library`` (path or ``None``), ``reason`` (why there is none), ``torch`` and
        ``built_for_torch``, ``compiler`` and ``cuda_toolkit`` that built it; ``cpu_isa`` and
        ``cpu_reason`` (why no better one); ``cuda_archs`` and ``cuda_reason`` (why there are no
        compiled CUDA kernels); ``gpu`` (name), ``cuda_arch`` (whose code it runs) and
        ``gpu_reason`` (why there is no GPU, or none that the kernels serve); ``ops``: operator ->
        device -> backend; ``slower``: operator -> device -> why not faster, or ``None``;
        ``mmcv_patched``: whether mmcv's modules are replaced.

    Raises:
        ValueError: if ISDA_OPS_CPU_ISA names nothing that this processor can run.
    """
    isa = torch.ops.isda_suite._cpu_isa() if LIBRARY.loaded else None
    built = LIBRARY.record.get('cuda_archs', 'none')
    archs = [] if built == 'none' else built.split('_')
    kinds = {
        operator: {device.lower(): kernel_kind(operator, device) for device in ('CPU', 'CUDA')}
        for operator in OPERATORS
    }
    report = {
        'library': str(LIBRARY.path) if LIBRARY.loaded else None,
        'reason': LIBRARY.reason,
        'torch': torch.__version__,
        'built_for_torch': LIBRARY.record.get('torch'),
        'compiler': LIBRARY.record.get('compiler'),
        'cuda_toolkit': LIBRARY.record.get('cuda') if archs else None,
        'cpu_isa': isa,
        'cpu_reason': cpu_reason(isa, best_cpu_variant()) if isa else LIBRARY.reason,
        'cuda_archs': archs,
        'cuda_reason': None if archs else _cuda_reason(),
        **_gpu(archs),
        'ops': kinds,
        'mmcv_patched': mmcv_is_patched(),
    }
    report['slower'] = {
        operator: {device: _why_slower(report, kind, device) for device, kind in devices.items()}
        for operator, devices in kinds.items()
    }
    return report


def _gpu(archs: list[str]) -> dict[str, str | None]:
    reason = gpu_reason()
    if reason:
        return {'gpu': None, 'cuda_arch': None, 'gpu_reason': reason}
    capability = torch.cuda.get_device_capability()
    arch = matching_arch(archs, capability)
    if archs and arch is None:
        reason = (
            f'the library has code for {", ".join(archs)}, this GPU is '
            f'{".".join(map(str, capability))}; set TORCH_CUDA_ARCH_LIST and build again'
        )
    return {'gpu': torch.cuda.get_device_name(), 'cuda_arch': arch, 'gpu_reason': reason}


def _cuda_reason() -> str:
    if not LIBRARY.loaded:
        return str(LIBRARY.reason)
    return LIBRARY.note() or 'the library was built for the CPU alone'


def _why_slower(report: dict[str, Any], kind: str, device: str) -> str | None:
    """Say why one operator does not run on the best kernels of a device."""
    if device == 'cpu':
        return report['cpu_reason']
    if kind == 'compiled':
        return report['gpu_reason']
    return report['cuda_reason'] or 'this operator has no CUDA kernels yet'
