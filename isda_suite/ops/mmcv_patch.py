"""Our modules and operators in the place of mmcv's, for stock models of mmdet and mmseg.

A class is replaced under every name it has: in mmcv, in the registries, and in modules that
imported it by name before. The replacement is a subclass of our module and of mmcv's, and type
checks against it accept mmcv's objects too, so ``isinstance`` gives the same answers for models
built before, during and after a patch.
"""

import copyreg
import importlib
import sys
import threading
from abc import ABCMeta
from collections.abc import Iterator
from functools import cache
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import Tensor

from .deform_conv2d import deform_conv2d as _deform_conv2d
from .ms_deform_attn import ms_deform_attn as _ms_deform_attn

# Where mmcv has a class, and where we have it; imported when needed, because it needs mmengine.
_MODULES = {
    'MultiScaleDeformableAttention': ('multi_scale_deform_attn', 'deformable_attention'),
    'DeformConv2d': ('deform_conv', 'deformable_convolution'),
    'DeformConv2dPack': ('deform_conv', 'deformable_convolution'),
    'ModulatedDeformConv2d': ('modulated_deform_conv', 'deformable_convolution'),
    'ModulatedDeformConv2dPack': ('modulated_deform_conv', 'deformable_convolution'),
}


class MmcvPatch:
    """What :func:`patch_mmcv` returns: a patch that is in force, and can be taken back.

    As a context manager it takes itself back at the end of the block. Patches nest: mmcv's own
    classes come back with the last one.
    """

    def __init__(self) -> None:
        self._active = False

    def __enter__(self) -> 'MmcvPatch':
        """Put the patch in force, if it is not."""
        self.apply()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the patch back."""
        self.restore()

    def apply(self) -> None:
        """Put the patch in force; nothing happens if it is.

        Raises:
            ImportError: if ``mmcv.ops`` cannot be imported.
        """
        with _lock:
            if not self._active:
                if not _in_force:
                    _replace()
                self._active = True
                _in_force.append(self)

    def restore(self) -> None:
        """Take the patch back; nothing happens if it is not in force."""
        with _lock:
            if self._active:
                self._active = False
                _in_force.remove(self)
                if not _in_force:
                    _bring_back()


_lock = threading.RLock()
_in_force: list[MmcvPatch] = []


def patch_mmcv() -> MmcvPatch:
    """Let stock models of mmdet and mmseg use our modules and operators.

    Replaced are mmcv's ``MultiScaleDeformableAttention``, ``DeformConv2d``, ``DeformConv2dPack``
    (``DCN``), ``ModulatedDeformConv2d``, ``ModulatedDeformConv2dPack`` (``DCNv2``), and the
    functions below them. State dicts, start values and arguments stay the same. Models built
    before keep their modules; from then on these call our functions as well where they do not run
    in C++ themselves.

    A call alone is for the whole process: ``patch_mmcv()``. For a block:
    ``with patch_mmcv(): model = MODELS.build(cfg)``; such a model keeps our modules afterwards.

    Returns:
        The patch, with ``restore()``.

    Raises:
        ImportError: if ``mmcv.ops`` cannot be imported.
    """
    patch = MmcvPatch()
    patch.apply()
    return patch


def mmcv_is_patched() -> bool:
    """Say whether a patch is in force."""
    return bool(_in_force)


class _StandsFor(ABCMeta):
    """Type of a replacement: what is an mmcv module counts as one of it."""

    # No __subclasscheck__: an abstract class asks all its subclasses, so mmcv's modules would count
    # as ours wherever ours are looked for.
    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            vars(cls).get('replaced') in type(instance).__mro__
        )


def _home(module: str) -> ModuleType:
    return importlib.import_module(f'mmcv.ops.{module}')


@cache
def _classes() -> dict[str, Any]:
    """Replacements by name; made while mmcv is as it was."""
    found = {}
    for name, (home, ours) in _MODULES.items():
        replaced = getattr(_home(home), name)
        bases = (getattr(importlib.import_module(f'.{ours}', __package__), name), replaced)
        # Found again under this module's name when an object is unpickled.
        content = {'__module__': __name__, '__doc__': bases[0].__doc__, 'replaced': replaced}
        found[name] = _StandsFor(name, bases, content)
    return found


@cache
def _pairs() -> tuple[tuple[Any, Any], ...]:
    """What is replaced, and by what."""
    attention, plain, modulated = (
        _home(name) for name in ('multi_scale_deform_attn', 'deform_conv', 'modulated_deform_conv')
    )
    return (
        *((kind.replaced, kind) for kind in _classes().values()),
        (attention.MultiScaleDeformableAttnFunction, MultiScaleDeformableAttnFunction),
        (attention.multi_scale_deformable_attn_pytorch, multi_scale_deformable_attn_pytorch),
        (plain.DeformConv2dFunction, DeformConv2dFunction),
        (plain.deform_conv2d, deform_conv2d),
        (modulated.ModulatedDeformConv2dFunction, ModulatedDeformConv2dFunction),
        (modulated.modulated_deform_conv2d, modulated_deform_conv2d),
    )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return _classes()[name]


def _replace() -> None:
    importlib.import_module('mmcv.ops')
    _swap({id(old): new for old, new in _pairs()})
    for kind in _classes().values():
        copyreg.pickle(kind.replaced, _reduce)


def _bring_back() -> None:
    _swap({id(new): old for old, new in _pairs()})
    for kind in _classes().values():
        copyreg.dispatch_table.pop(kind.replaced, None)


def _reduce(module: Any) -> tuple[Any, ...]:
    """Pickle a module of mmcv's own while its class is not to be found under its name."""
    return _new_original, (type(module).__name__,), module.__dict__


def _new_original(name: str) -> Any:
    kind = _classes()[name].replaced
    return kind.__new__(kind)


def _swap(replacements: dict[int, Any]) -> None:
    """Exchange objects, given by their identity, in all modules and registries."""
    for module in list(sys.modules.values()):
        # Not this one: its functions are the replacements, whatever is swapped.
        if isinstance(module, ModuleType) and module.__name__ != __name__:
            for name, value in list(vars(module).items()):
                if id(value) in replacements:
                    setattr(module, name, replacements[id(value)])
    for registry in _registries():
        for name, value in list(registry.module_dict.items()):
            if id(value) in replacements:
                registry.module_dict[name] = replacements[id(value)]


def _registries() -> Iterator[Any]:
    """All registries of modules, in all scopes."""
    from mmengine.registry import MODELS

    waiting = [MODELS]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        yield registry


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute :func:`.ms_deform_attn` with the arguments of mmcv's function of this name."""
    points = (_beside(value, t) for t in (sampling_locations, attention_weights))
    return _ms_deform_attn(value, value_spatial_shapes, None, *points)


def _beside(value: Tensor, points: Tensor) -> Tensor:
    """Bring locations and weights to a dtype that is legal beside ``value``; as mmcv, widely."""
    half = value.dtype in (torch.float16, torch.bfloat16)
    return points if half and points.dtype == torch.float32 else points.to(value.dtype)


class MultiScaleDeformableAttnFunction:
    """Has the ``apply`` of mmcv's autograd function of this name."""

    @staticmethod
    def apply(
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int = 64,
    ) -> Tensor:
        """Compute :func:`.ms_deform_attn`; ``im2col_step`` is ignored."""
        points = (_beside(value, t) for t in (sampling_locations, attention_weights))
        return _ms_deform_attn(value, value_spatial_shapes, value_level_start_index, *points)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Compute :func:`isda_suite.ops.deform_conv2d` with mmcv's arguments.

    ``im2col_step`` is ignored.

    Raises:
        ValueError: if there is to be a bias, which mmcv has not either.
    """
    if bias:
        raise ValueError(f'bias: expected False, this version has none, got {bias}')
    geometry = (stride, padding, dilation, groups, deform_groups)
    return _deform_conv2d(input, offset, None, weight, None, *geometry)


class DeformConv2dFunction:
    """Has the ``apply`` of mmcv's autograd function of this name."""

    apply = staticmethod(deform_conv2d)


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Compute :func:`isda_suite.ops.deform_conv2d` with mmcv's arguments."""
    geometry = (stride, padding, dilation, groups, deform_groups)
    return _deform_conv2d(input, offset, mask, weight, bias, *geometry)


class ModulatedDeformConv2dFunction:
    """Has the ``apply`` of mmcv's autograd function of this name."""

    apply = staticmethod(modulated_deform_conv2d)
