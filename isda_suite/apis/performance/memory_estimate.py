r"""Estimate the memory of a training step or a prediction before it runs.

.. math:: \text{process} + \text{weights} + \text{optimizer} + \max(\text{pass}, \text{file})
    + \text{loaders}

A pass is what it takes at its peak, gradients included. It is run on noise: small inputs as they
are; otherwise a few small sizes, of which :mod:`.memory_growth` tells the rest. A test reads its
file of weights before its first pass, and training states in it are read as well.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from isda_suite.engine.memory import give_back

from .memory_growth import GPU_FACTOR, UNMEASURED_FACTOR, StepGrowth, growth_of, is_small
from .memory_trial import Workload, copy_to_cpu, counted_bytes, taken_bytes

# What a process takes of a GPU beside its tensors: the context of CUDA and the workspaces of its
# libraries. Assumed, not measured.
GPU_CONTEXT = 600_000_000


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what takes them.

    Args:
        process: Of the libraries and data; on a GPU what CUDA takes for itself.
        weights: Of parameters and buffers.
        optimizer: Of its states.
        step: Of one pass at its peak: activations, gradients, temporary results.
        loaders: Of the data loading processes and what they have ready.
        checkpoint: Of a file of weights while it is read, before the first pass.
        growth: How the pass grows, if it was told from smaller ones.
    """

    process: int
    weights: int
    optimizer: int
    step: int
    loaders: int = 0
    checkpoint: int = 0
    growth: StepGrowth | None = field(default=None, compare=False, repr=False)

    @property
    def parts(self) -> dict[str, int]:
        """The bytes by name."""
        return {name: value for name, value in vars(self).items() if name != 'growth'}

    @property
    def total(self) -> int:
        """What is there at the same time, at the most."""
        moving = max(self.step, self.checkpoint)
        return self.process + self.weights + self.optimizer + self.loaders + moving


def bytes_of_weights(model: nn.Module) -> int:
    """Return what parameters and buffers take; shared ones count once."""
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def bytes_of_optimizer(model: nn.Module, optimizer: dict[str, Any]) -> int:
    """Return what the states of an optimizer will take for a model.

    Args:
        model: Frozen parameters have no states.
        optimizer: Its configuration, as ``dict(type='AdamW', lr=1e-4)``.
    """
    from mmengine.registry import OPTIMIZERS

    trial = nn.Parameter(torch.zeros(1024))
    trial.grad = torch.zeros_like(trial)
    made: Any = OPTIMIZERS.build({**optimizer, 'params': [trial]})
    made.step()
    states = [v for v in made.state[trial].values() if isinstance(v, torch.Tensor)]
    each = sum(state.numel() * state.element_size() for state in states) / trial.numel()
    return int(each * sum(p.numel() for p in model.parameters() if p.requires_grad))


def bytes_of_step(
    model: nn.Module, load: Workload, on_gpu: bool = False
) -> tuple[int, StepGrowth | None]:
    """Return what one pass will take at its peak.

    Args:
        model: With ``cfg``; it is copied, and the copy runs on the CPU.
        load: What will run.
        on_gpu: For the memory of a GPU.

    Returns:
        Bytes, and how they grow, None where the pass itself was measured.
    """
    trial = copy_to_cpu(model, load.training)
    if not is_small(model, load):
        growth = growth_of(trial, load, on_gpu)
        return growth.bytes_of(load.batch_size, load.size_hw), growth
    counted = counted_bytes(trial, load)
    taken = None if on_gpu else taken_bytes(trial, load)
    if taken is None:
        return int((GPU_FACTOR if on_gpu else UNMEASURED_FACTOR) * counted), None
    return max(taken, counted), None


def estimate(
    model: nn.Module,
    load: Workload,
    optimizer: dict[str, Any] | None = None,
    process: Callable[[], int] | None = None,
    checkpoint: int = 0,
) -> MemoryEstimate:
    """Estimate all parts but the data loading processes.

    Args:
        model: With ``cfg``.
        load: What will run.
        optimizer: Its configuration, for training.
        process: Tells the bytes of the process without the weights. It is asked after the trial,
            since code counts that is in memory only once it has run (some 100 MB). None is for a
            GPU.
        checkpoint: Bytes of the file that is read before the first pass.
    """
    step, growth = bytes_of_step(model, load, process is None)
    gc.collect()
    give_back()
    return MemoryEstimate(
        process=GPU_CONTEXT if process is None else process(),
        weights=bytes_of_weights(model),
        optimizer=0 if optimizer is None else bytes_of_optimizer(model, optimizer),
        step=step,
        checkpoint=checkpoint,
        growth=growth,
    )


def describe(found: MemoryEstimate, load: Workload, free: int | None, on_gpu: bool = False) -> str:
    """Write an estimate as one line.

    Args:
        found: The estimate.
        load: What it is for.
        free: Bytes that the whole may take, None if they are not known.
        on_gpu: Of a GPU's memory.
    """
    height, width = load.size_hw
    names = _NAMES if load.training else {**_NAMES, 'step': 'activations'}
    words = ', '.join(
        f'{names[name]} {gigabytes(value)}' for name, value in found.parts.items() if value
    )
    kind = 'training' if load.training else 'inference'
    room = 'unknown how much is free' if free is None else f'{gigabytes(free)} GB free'
    return (
        f'{kind} with {load.batch_size} x {height} x {width} pixels needs about '
        f'{gigabytes(found.total)} GB{" of a GPU" * on_gpu}, {room} ({words})'
    )


_NAMES = {
    'process': 'process',
    'weights': 'weights',
    'optimizer': 'optimizer',
    'step': 'gradients and activations',
    'loaders': 'data loading',
    'checkpoint': 'before them the file of weights',
}


def gigabytes(value: float) -> str:
    """Write bytes as gigabytes with two digits."""
    return f'{value / 1e9:.2f}'
