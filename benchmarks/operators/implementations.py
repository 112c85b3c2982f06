"""Ours and what it is compared with, all called with the same operands.

An anchor that cannot be used is never left out in silence: ``find`` returns it with the reason.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .cases import (
    AttentionOperands,
    Case,
    ConvolutionOperands,
    FusedOperands,
    Operands,
    map_tensors,
)

OURS = 'isda_suite'
_DEFORMOPS_BYTES = 35
REMEDY = 'make bench-env'


class Unavailable(Exception):
    """An implementation cannot be used here; says why."""


class Implementation(NamedTuple):
    """One way to compute a case.

    Attributes:
        forward: operands to result.
        prepare: what it needs done to the operands beforehand, outside of the measured time.
        leaves: the operands it has gradients of; ``None``: all that the operator has.
        comparable: whether it computes the same as ours.
        bytes_per_element: of memory at the peak for every sampled element, as measured on the CPU
            forward and backward; 0 if that is little.
    """

    forward: Callable[[Any], Tensor]
    prepare: Callable[[Operands], Operands] = lambda operands: operands
    leaves: tuple[str, ...] | None = None
    comparable: bool = True
    bytes_per_element: int = 0


def find(case: Case, device: str) -> tuple[dict[str, Implementation], dict[str, str]]:
    """Return all implementations of a case, ours last, and those that are missing.

    Returns:
        Name to implementation, and name to the reason why there is none.
    """
    found, missing = {}, {}
    for name, load in _LOADERS[case.operator].items():
        if device not in _DEVICES.get((case.operator, name), (device,)):
            continue
        try:
            implementation = load(device, case)
            _require_memory(implementation, device, case)
            found[name] = implementation
        except (ImportError, AttributeError, OSError, Unavailable) as error:
            missing[name] = str(error)
    return found, missing


def _require_memory(implementation: Implementation, device: str, case: Case) -> None:
    """Refuse what would bring the machine down, with a good margin.

    Raises:
        Unavailable: if it may need more than half of the memory that is free.
    """
    meminfo = Path('/proc/meminfo')
    if device != 'cpu' or not implementation.bytes_per_element or not meminfo.exists():
        return
    lines = meminfo.read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith('MemAvailable'))
    needed = case.samples * case.channels * implementation.bytes_per_element
    if needed > kib * 1024 / 2:
        raise Unavailable(
            f'it needs about {needed / 1e9:.0f} GB of memory, {kib * 1024 / 1e9:.0f} GB are free'
        )


def our_operators() -> Any:
    """Return ``isda_suite.ops``, or its operators alone where mmengine is not installed.

    The modules of the package derive from mmengine's; the operators need nothing but torch.
    """
    name = 'isda_suite.ops'
    if name not in sys.modules and importlib.util.find_spec('mmengine') is None:
        root = importlib.import_module('isda_suite').__path__[0]
        package = types.ModuleType(name)
        package.__path__ = [str(Path(root, 'ops'))]
        sys.modules[name] = package
        for operator in ('ms_deform_attn', 'deform_conv2d', 'ms_deform_attn_fused'):
            if importlib.util.find_spec(f'{name}.{operator}'):
                module = importlib.import_module(f'{name}.{operator}')
                setattr(package, operator, getattr(module, operator))
        vars(package)['info'] = importlib.import_module(f'{name}.information').info
    return importlib.import_module(name)


def _one_dtype(*names: str) -> Callable[[Operands], Operands]:
    """For those that want the operands ``names`` in the dtype of ``value``: cast beforehand."""

    def prepare(operands: Any) -> Operands:
        return map_tensors(operands, lambda tensor: tensor.to(operands.value.dtype), names)

    return prepare


def _compiled_mmcv(device: str) -> None:
    """Refuse the stand-in for mmcv's compiled operators: it would be torchvision's or ours.

    Raises:
        Unavailable: if mmcv has no compiled operators, or none for the device.
    """
    importlib.import_module('mmcv')
    if importlib.import_module('isda_suite.compat.import_hook').stand_in_is_used():
        raise Unavailable(
            "mmcv is installed without its compiled operators, and isda_suite's stand-in for them "
            f'is not mmcv: {REMEDY}'
        )
    version = importlib.import_module('mmcv.ops').get_compiling_cuda_version()
    if device == 'cuda' and version == 'not available':
        raise Unavailable(f'mmcv was compiled without CUDA: FORCE_CUDA=1 {REMEDY}')


def _mmcv_attention(device: str, case: Case) -> Implementation:
    """Return mmcv's: compiled on a GPU; it has none for the CPU and runs plain PyTorch there."""
    if device == 'cuda':
        _compiled_mmcv(device)
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    if device == 'cuda':
        apply = module.MultiScaleDeformableAttnFunction.apply
        return Implementation(lambda o: apply(*o[:5], 64))
    function = module.multi_scale_deformable_attn_pytorch

    def forward(o: AttentionOperands) -> Tensor:
        return function(o.value, o.shapes, o.locations, o.weights)

    return Implementation(forward, _one_dtype('locations', 'weights'))


def _transformers_function() -> Callable[..., Tensor]:
    module = importlib.import_module('transformers.models.deformable_detr.modeling_deformable_detr')
    return module.MultiScaleDeformableAttention()


def _transformers_attention(device: str, case: Case) -> Implementation:
    function = _transformers_function()

    def forward(o: AttentionOperands) -> Tensor:
        return function(o.value, o.shapes, o.pairs, o.starts, o.locations, o.weights, 64)

    return Implementation(forward, _one_dtype('locations', 'weights'))


def _deformops_attention(backend: str) -> Callable[[str, Case], Implementation]:
    def load(device: str, case: Case) -> Implementation:
        registry = importlib.import_module('deformops.registry')
        chosen = registry.Backend(backend)
        return Implementation(
            lambda o: registry.msda(*o[:5], backend=chosen),
            _one_dtype('weights'),
            bytes_per_element=_DEFORMOPS_BYTES,
        )

    return load


def _locations(o: FusedOperands) -> Tensor:
    """(B, Q, M, L, P, 2) locations, as a caller of the operator that is not fused makes them."""
    sizes_xy = o.shapes.flip(-1)[:, None]
    return o.reference[:, :, None, :, None] + o.offsets / sizes_xy


def _then(
    load: Callable[[str, Case], Implementation],
) -> Callable[[str, Case], Implementation]:
    """Precede an attention by softmax and addition."""

    def load_all(device: str, case: Case) -> Implementation:
        attention = load(device, case)

        def forward(o: FusedOperands) -> Tensor:
            weights = o.logits.flatten(3).softmax(-1).view_as(o.logits)
            plain = AttentionOperands(o.value, o.shapes, o.starts, _locations(o), weights, o.pairs)
            return attention.forward(attention.prepare(plain))

        return Implementation(forward)

    return load_all


def _deformops_softmax(device: str, case: Case) -> Implementation:
    """Return deformops' attention with the softmax in its kernel; locations are made before it."""
    registry = importlib.import_module('deformops.registry')

    def forward(o: FusedOperands) -> Tensor:
        points = _locations(o)
        return registry.msda(o.value, o.shapes, o.starts, points, o.logits, method='softmax')

    return Implementation(forward, _one_dtype('logits'), bytes_per_element=_DEFORMOPS_BYTES)


def _mmcv_convolution(device: str, case: Case) -> Implementation:
    _compiled_mmcv(device)
    ops = importlib.import_module('mmcv.ops')

    def forward(o: ConvolutionOperands) -> Tensor:
        if o.mask is None:
            return ops.deform_conv2d(o.input, o.offset, o.weight, 1, 1)
        return ops.modulated_deform_conv2d(o.input, o.offset, o.mask, o.weight, o.bias, 1, 1)

    return Implementation(forward)


def _deformops_convolution(device: str, case: Case) -> Implementation:
    function = importlib.import_module('deformops.integrations.torchvision').deform_conv2d

    def forward(o: ConvolutionOperands) -> Tensor:
        return function(o.input, o.offset, o.weight, o.bias, padding=(1, 1), mask=o.mask)

    return Implementation(forward)


def _torchvision_convolution(device: str, case: Case) -> Implementation:
    function = importlib.import_module('torchvision.ops').deform_conv2d

    def forward(o: ConvolutionOperands) -> Tensor:
        return function(o.input, o.offset, o.weight, o.bias, padding=1, mask=o.mask)

    return Implementation(forward)


def _plain_convolution(device: str, case: Case) -> Implementation:
    def forward(o: ConvolutionOperands) -> Tensor:
        return F.conv2d(o.input, o.weight, o.bias, padding=1)

    return Implementation(forward, leaves=('input', 'weight', 'bias'), comparable=False)


def _our_attention(device: str, case: Case) -> Implementation:
    function = our_operators().ms_deform_attn
    return Implementation(lambda o: function(o.value, o.pairs, None, o.locations, o.weights))


def _our_fused_attention(device: str, case: Case) -> Implementation:
    function = getattr(our_operators(), 'ms_deform_attn_fused', None)
    if not callable(function):
        raise Unavailable('isda_suite.ops has no ms_deform_attn_fused')
    return Implementation(
        lambda o: function(o.value, o.pairs, None, o.reference, o.offsets, o.logits)
    )


def _our_convolution(device: str, case: Case) -> Implementation:
    function = our_operators().deform_conv2d
    return Implementation(lambda o: function(*o, padding=1))


# deformops has one backend for the CPU and two for GPUs, which are measured by themselves.
_DEVICES = {
    ('ms_deform_attn', 'deformops'): ('cpu',),
    ('ms_deform_attn', 'deformops_triton'): ('cuda',),
    ('ms_deform_attn', 'deformops_cuda'): ('cuda',),
}
_Loaders = dict[str, Callable[[str, Case], Implementation]]
_LOADERS: dict[str, _Loaders] = {
    'ms_deform_attn': {
        'mmcv': _mmcv_attention,
        'transformers': _transformers_attention,
        'deformops': _deformops_attention('eager'),
        'deformops_triton': _deformops_attention('triton'),
        'deformops_cuda': _deformops_attention('cuda'),
        OURS: _our_attention,
    },
    'ms_deform_attn_fused': {
        'transformers': _then(_transformers_attention),
        'deformops': _deformops_softmax,
        f'{OURS}_unfused': _then(_our_attention),
        OURS: _our_fused_attention,
    },
    'deform_conv2d': {
        'mmcv': _mmcv_convolution,
        'torchvision': _torchvision_convolution,
        'deformops': _deformops_convolution,
        'conv2d': _plain_convolution,
        OURS: _our_convolution,
    },
}
