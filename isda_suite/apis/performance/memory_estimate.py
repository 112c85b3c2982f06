r"""Estimate the memory of a training step or a prediction before it runs.

.. math:: \text{process} + \text{weights} + \text{optimizer} + p(n, s) + \text{loaders}

``p`` is what the tensors of one pass take at their peak, gradients included. It is measured on
noise: for small inputs as they are; otherwise for a few small sizes, to which

.. math:: p(n, s) = c + n \, (a_0 + a_1 s + a_2 s^2), \quad c, a_i \ge 0

is fitted: n images of s pixels; the square is for attention of every pixel to every other.
"""

import copy
import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from isda_suite.apis.videos.clip_pipeline import clip_length
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.memory import give_back

from .noise_batches import noise_batch
from .tensor_memory import TensorMemory

Size = tuple[int, int]
# Inputs of up to so many pixels, all frames and images together, are measured as they are.
_DIRECT_PIXELS = 3 * 256 * 256
# Sides of the sizes that are measured otherwise; an image of the largest has the pixels above in a
# pass of three images.
_SIDES = (128, 192, 256)
_MULTIPLE = 32
# What glibc keeps of freed memory, and what the kernels take inside, for each byte of tensors.
_OVERHEAD = 1.1


@dataclass(frozen=True)
class Workload:
    """What will run.

    Args:
        batch_size: Images or clips at a time.
        size_hw: Of each, padded as the network sees it.
        training: Whether gradients are computed.
        num_instances: Objects in each image.
        amp: Mixed precision, in a type of 16 bits.
    """

    batch_size: int
    size_hw: Size
    training: bool
    num_instances: int = 8
    amp: bool = False


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what takes them.

    Args:
        process: Of the libraries and data; 0 on a GPU.
        weights: Of parameters and buffers.
        optimizer: Of its states.
        step: Of one pass at its peak: activations, gradients, temporary results.
        loaders: Of the data loading processes and what they have ready.
    """

    process: int
    weights: int
    optimizer: int
    step: int
    loaders: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.process + self.weights + self.optimizer + self.step + self.loaders


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


def bytes_of_step(model: nn.Module, load: Workload) -> int:
    """Return what the tensors of one pass will take at their peak.

    Args:
        model: With ``cfg``; it is copied, and the copy runs on the CPU.
        load: What will run.
    """
    frames = clip_length(model) or 1
    pixels = load.size_hw[0] * load.size_hw[1]
    trial = _copy_to_cpu(model, load.training)
    if load.batch_size * frames * pixels <= _DIRECT_PIXELS:
        return int(_OVERHEAD * _measure(trial, load))
    sides = _sides(frames)
    # Statistics of a batch normalisation need more than one value, where maps have one pixel.
    first = min(load.batch_size, 2) if load.training else 1
    points = [(first, side) for side in sides] + [(first + 1, sides[0])]
    peaks = [
        _measure(trial, replace(load, batch_size=number, size_hw=(side, side)))
        for number, side in points
    ]
    sizes = [(number, side * side) for number, side in points]
    return int(_OVERHEAD * extrapolate(sizes, peaks, (load.batch_size, pixels)))


def _sides(frames: int) -> Sequence[int]:
    """Return the sides to measure; all frames of a clip have the pixels of one image."""
    largest = max(int((_SIDES[-1] ** 2 / frames) ** 0.5) // _MULTIPLE, 3) * _MULTIPLE
    if largest >= _SIDES[-1]:
        return _SIDES
    return largest - 2 * _MULTIPLE, largest - _MULTIPLE, largest


def extrapolate(
    sizes: Sequence[tuple[int, int]], peaks: Sequence[float], wanted: tuple[int, int]
) -> float:
    """Fit the formula of this module to measured peaks and return its value elsewhere.

    Args:
        sizes: Images and pixels of each, for every measurement.
        peaks: Bytes.
        wanted: Images and pixels to predict.
    """
    from scipy.optimize import nnls

    scale = float(max(pixels for _, pixels in sizes))

    def terms(number: int, pixels: int) -> list[float]:
        share = pixels / scale
        return [1.0, number, number * share, number * share**2]

    # Relative errors count, so that the smallest measurement is fitted as well as the largest.
    rows = np.array([terms(*size) for size in sizes]) / np.array(peaks)[:, None]
    factors, _ = nnls(rows, np.ones(len(peaks)))
    return float(factors @ np.array(terms(*wanted)))


def _copy_to_cpu(model: nn.Module, training: bool) -> Any:
    from mmengine.model import revert_sync_batchnorm

    trial: Any = revert_sync_batchnorm(copy.deepcopy(model).cpu()).train(training)
    trial.cfg = getattr(model, 'cfg', None)
    for parameter in trial.parameters():
        parameter.grad = None
    return trial


def _measure(trial: Any, load: Workload) -> int:
    """Return the peak of the tensors of one pass of noise."""
    batch = noise_batch(trial, load.batch_size, load.size_hw, load.num_instances)
    known = [*trial.parameters(), *trial.buffers()]
    mixed: Any = torch.autocast('cpu', dtype=torch.bfloat16) if load.amp else nullcontext()
    with kept_randomness(), _padding_to(trial, load.size_hw), _alone(), quiet_imports():
        with TensorMemory(known) as memory:
            if load.training:
                with mixed:
                    prepared = trial.data_preprocessor(batch, True)
                    losses = trial(**prepared, mode='loss')
                    total, _ = trial.parse_losses(losses)
                total.backward()
            else:
                with mixed, torch.no_grad():
                    prepared = trial.data_preprocessor(batch, False)
                    trial(**prepared, mode='predict')
    trial.zero_grad(set_to_none=True)
    return memory.peak


@contextmanager
def _padding_to(trial: Any, size_hw: Size) -> Iterator[None]:
    """Let a preprocessor that pads to one size pad to this one."""
    preprocessor = trial.data_preprocessor
    before = getattr(preprocessor, 'size', None)
    if before is not None:
        preprocessor.size = size_hw
    try:
        yield
    finally:
        if before is not None:
            preprocessor.size = before


@contextmanager
def _alone() -> Iterator[None]:
    """Let losses believe that there is one process: the other ranks run no trial."""
    with mock.patch.object(torch.distributed, 'is_initialized', lambda: False):
        yield


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Leave the random numbers of the run as they are."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def estimate(
    model: nn.Module,
    load: Workload,
    optimizer: dict[str, Any] | None = None,
    process: Callable[[], int] = lambda: 0,
    loaders: int = 0,
) -> MemoryEstimate:
    """Estimate all parts.

    Args:
        model: With ``cfg``.
        load: What will run.
        optimizer: Its configuration, for training.
        process: Tells the bytes of the process without the weights. It is asked after the trial,
            since code counts that is in memory only once it has run (some 100 MB).
        loaders: Bytes of the data loading processes.
    """
    step = bytes_of_step(model, load)
    gc.collect()
    give_back()
    return MemoryEstimate(
        process=process(),
        weights=bytes_of_weights(model),
        optimizer=0 if optimizer is None else bytes_of_optimizer(model, optimizer),
        step=step,
        loaders=loaders,
    )


def describe(found: MemoryEstimate, load: Workload, free: int | None) -> str:
    """Write an estimate as one line.

    Args:
        found: The estimate.
        load: What it is for.
        free: Bytes that the whole may take, None if they are not known.
    """
    parts = {name: value for name, value in vars(found).items() if value}
    height, width = load.size_hw
    words = ', '.join(f'{_NAMES[name]} {_gb(value)}' for name, value in parts.items())
    kind = 'training' if load.training else 'inference'
    room = 'unknown how much is free' if free is None else f'{_gb(free)} GB free'
    return (
        f'{kind} with {load.batch_size} x {height} x {width} pixels needs about '
        f'{_gb(found.total)} GB, {room} ({words})'
    )


_NAMES = {
    'process': 'process',
    'weights': 'weights',
    'optimizer': 'optimizer',
    'step': 'gradients and activations',
    'loaders': 'data loading',
}


def _gb(value: float) -> str:
    return f'{value / 1e9:.2f}'
