"""How many parameters a model has and how many multiply-adds a forward pass takes, by module.

PyTorch's own counter runs the model once and sees every operator, also those that a trace by
``torch.jit`` (mmengine's and mmdet's counters) leaves out, such as fused attention. Our operators
and fused attention on the CPU are added here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from isda_suite.apis.model import load_model

from .speed_protocols import SpeedSettings, prepare_step

#: Multiply-adds of a sampled number: four corners of a bilinear sample, and its weight.
_SAMPLE = 5
_FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class ModuleCount:
    """What a module has and does, with everything inside of it.

    Args:
        name: Dotted; empty for the whole model.
        kind: Class of the module.
        parameters: How many numbers.
        trainable: How many of them are trained.
        macs: Multiply-adds of the forward pass.
    """

    name: str
    kind: str
    parameters: int
    trainable: int
    macs: int


@dataclass(frozen=True)
class Complexity:
    """What was counted.

    Args:
        modules: The model first, then its modules in the order of definition.
        by_operator: Multiply-adds of each operator.
        input_hw: Height and width that the network saw.
        clip_len: Frames of a clip; ``None`` for a model of images.
    """

    modules: tuple[ModuleCount, ...]
    by_operator: dict[str, int]
    input_hw: tuple[int, int]
    clip_len: int | None

    def as_json(self) -> dict[str, Any]:
        """Return everything as json takes it."""
        return asdict(self)

    def table(self, depth: int) -> str:
        """Return modules as a table.

        Args:
            depth: How many levels of modules are shown below the model.
        """
        total = self.modules[0]
        shown = [one for one in self.modules if _depth(one.name) <= depth]
        shown = [one for one in shown if one.parameters or one.macs]
        names = ['  ' * _depth(one.name) + (one.name.rpartition('.')[2] or one.kind)
                 for one in shown]  # fmt: skip
        width = max(map(len, names))
        seen = f'{self.input_hw[0]} x {self.input_hw[1]}'
        seen += f', clips of {self.clip_len} frames' if self.clip_len else ''
        lines = [
            f'input {seen}: {_short(total.parameters)} parameters, {_short(total.trainable)} of '
            f'them trained; {_short(total.macs)} multiply-adds (papers call these FLOPs; strictly '
            f'{_short(_FLOPS_PER_MAC * total.macs)} FLOPs)',
            f'{"module":<{width}}{"parameters":>14}{"trained":>12}{"multiply-adds":>16}{"share":>8}',
        ]
        for name, one in zip(names, shown, strict=True):
            share = 100 * one.macs / max(total.macs, 1)
            numbers = (_short(value) for value in (one.parameters, one.trainable, one.macs))
            cells = '{:>14}{:>12}{:>16}'.format(*numbers)
            lines.append(f'{name:<{width}}{cells}{share:>6.1f} %')
        lines.append('by operator: ' + ', '.join(
            f'{name} {_short(value)}' for name, value in self.by_operator.items()
        ))  # fmt: skip
        return '\n'.join(lines)


def count_model(
    config: str | Path | Config, height: int = 800, width: int = 1333, device: str = 'auto'
) -> Complexity:
    """Count a model on noise of one size, without its post-processing.

    Multiplications and additions of one element with another are not counted, as usual: they cost
    memory traffic, not arithmetic.

    Args:
        config: File, name of a shipped config, or the config itself.
        height: Height of the image in pixels, before the padding of the data preprocessor.
        width: Its width.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: if the config, a size or the device is wrong.
    """
    settings = SpeedSettings(height, width, protocol='network', warmup=0, iters=1)
    model = load_model(config, None, device)
    parameters = _parameters_of(model)
    model.requires_grad_(False)  # the counter would follow gradients of views of parameters
    step = prepare_step(model, settings)
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with torch.no_grad(), counter:
        step.run()
    counts: dict[str, dict[Any, int]] = counter.get_flop_counts()
    operators = counts.get('Global', {})
    largest = sorted(operators.items(), key=lambda pair: -pair[1])
    return Complexity(
        tuple(_count_modules(model, counts, parameters)),
        {str(name): value // _FLOPS_PER_MAC for name, value in largest if value},
        step.input_hw,
        step.clip_len,
    )


def _parameters_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return how many numbers each module has, and how many of them are trained."""
    found = {}
    for name, module in model.named_modules():
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        found[name] = sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
    return found


def _count_modules(
    model: nn.Module, counts: dict[str, dict[Any, int]], parameters: dict[str, tuple[int, int]]
) -> list[ModuleCount]:
    root = type(model).__name__
    found = []
    for name, module in model.named_modules():
        of_module = counts.get(f'{root}.{name}' if name else 'Global', {})
        macs = sum(of_module.values()) // _FLOPS_PER_MAC
        found.append(ModuleCount(name, type(module).__name__, *parameters[name], macs))
    return _with_sums(found)


def _with_sums(modules: list[ModuleCount]) -> list[ModuleCount]:
    """Give a module at least the sum of its parts: some are called without it, as in a list."""
    sums: dict[str, int] = {}
    for one in reversed(modules):
        sums[one.name] = max(one.macs, sums.get(one.name, 0))
        if one.name:
            parent = one.name.rpartition('.')[0]
            sums[parent] = sums.get(parent, 0) + sums[one.name]
    total = modules[0].macs  # of everything that ran, so no sum is needed
    return [replace(one, macs=sums[one.name] if one.name else total) for one in modules]


def _formulas() -> dict[Any, Callable[..., int]]:
    import isda_suite.ops  # noqa: F401  (a model of other libraries has not loaded them)

    ours: Any = torch.ops.isda_suite
    aten: Any = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {
        ours.ms_deform_attn: _attention,
        ours.ms_deform_attn_fused: _attention,
        ours.deform_conv2d: _convolution,
    }
    on_cpu = getattr(aten, '_scaled_dot_product_flash_attention_for_cpu', None)
    if on_cpu is not None:
        formulas[on_cpu] = _dense_attention
    return formulas


def _attention(value: Sequence[int], *shapes: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Count deformable attention: every point samples the channels of its head.

    Shapes: value (B, S, M, C); the last operand (B, Q, M, L, P).
    """
    return _FLOPS_PER_MAC * _SAMPLE * math.prod(shapes[-1]) * value[-1]


def _convolution(
    image: Sequence[int],
    offset: Sequence[int],
    mask: Any,
    weight: Sequence[int],
    *rest: Any,
    out_shape: Any = None,
    **kwargs: Any,
) -> int:
    """Count deformable convolution: a convolution of samples, each of four corners and a mask."""
    taps = math.prod(weight[2:])
    places = image[0] * math.prod(offset[2:])
    samples = places * image[1] * taps * _SAMPLE
    return _FLOPS_PER_MAC * (samples + places * math.prod(weight))


def _dense_attention(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *rest: Any,
    out_shape: Any = None,
    **kwargs: Any,
) -> int:
    """Count attention of (B, M, Q, C) queries to (B, M, S, C) keys: two products of matrices."""
    pairs = math.prod(query[:-1]) * key[-2]
    return _FLOPS_PER_MAC * pairs * (query[-1] + value[-1])


def _depth(name: str) -> int:
    return name.count('.') + 1 if name else 0


def _short(value: int) -> str:
    for unit, size in (('T', 10**12), ('G', 10**9), ('M', 10**6), ('k', 10**3)):
        if value >= size:
            return f'{value / size:.2f} {unit}'
    return str(value)
