"""What one pass of noise takes: its tensors, counted, and the memory of the process, measured.

The tensors are the same on every machine. On the CPU a process takes more than them: kernels make
copies in their own layout (oneDNN does so for the input, the weights and the result of a
convolution), and what is freed in pieces stays with the C library, which cannot use every piece
again. Both are in the peak that the kernel of the system tells of a pass.
"""

import copy
import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.memory import peak_of

from .noise_batches import noise_batch
from .tensor_memory import TensorMemory

Size = tuple[int, int]


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


def copy_to_cpu(model: nn.Module, training: bool) -> Any:
    """Return a copy of a model that can run alone on the CPU, without gradients.

    Args:
        model: With ``cfg``.
        training: The mode of the copy.
    """
    from mmengine.model import revert_sync_batchnorm

    trial: Any = revert_sync_batchnorm(copy.deepcopy(model).cpu()).train(training)
    trial.cfg = getattr(model, 'cfg', None)
    for parameter in trial.parameters():
        parameter.grad = None
    return trial


def counted_bytes(trial: Any, load: Workload) -> int:
    """Return the peak of the tensors of one pass.

    Args:
        trial: As :func:`copy_to_cpu` makes it.
        load: What runs.
    """
    return counted_peaks(trial, load)[0]


def counted_peaks(trial: Any, load: Workload) -> tuple[int, int]:
    """Return the peak of the tensors of one pass, and that of all but gradients of parameters.

    Args:
        trial: As :func:`copy_to_cpu` makes it.
        load: What runs.
    """
    with TensorMemory([*trial.parameters(), *trial.buffers()]) as memory:
        _run(trial, load)
    trial.zero_grad(set_to_none=True)
    return memory.peak, memory.peak_beside_gradients


def taken_bytes(trial: Any, load: Workload) -> int | None:
    """Return how far one pass raises the memory of this process; None where nothing tells it.

    Args:
        trial: One that has run before, so that its code and the libraries' is in memory.
        load: What runs.
    """
    gc.collect()
    _, taken = peak_of(partial(_run, trial, load))
    trial.zero_grad(set_to_none=True)
    return taken


def _run(trial: Any, load: Workload) -> None:
    batch = noise_batch(trial, load.batch_size, load.size_hw, load.num_instances)
    mixed: Any = torch.autocast('cpu', dtype=torch.bfloat16) if load.amp else nullcontext()
    with kept_randomness(), _padding_to(trial, load.size_hw), _alone(), quiet_imports():
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
