r"""How the memory of a pass grows with its images and their pixels, told from a few small passes.

.. math:: p(n, s) = c + (a_1 s + a_2 s^2) \, (1 + r (n - n_0)), \quad c, a_i, r \ge 0

is what the tensors take: n images of s pixels; the square is for attention of every pixel to every
other. It is fitted to counted tensors, which are exact, since what is told lies far outside: three
sizes of n_0 images, and the largest with one image more. One more of n images is not always a share
of 1/n: a test makes the masks of one image after the other.

What the process takes for these tensors is

.. math:: m = b + k \, p, \quad b \ge 0, k \ge 1

which is measured on the smallest of these passes and on one that is about ten times as large.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isda_suite.engine.memory import free_memory

from .clip_pipeline import clip_length
from .memory_trial import Size, Workload, counted_bytes, taken_bytes

# Inputs of up to so many pixels, all frames and images together, are measured as they are.
DIRECT_PIXELS = 512 * 512
# Sides of the images whose tensors are counted otherwise.
_SIDES = (128, 192, 256)
_MULTIPLE = 32
# Where nothing tells the memory of a process: mean of what was measured on Linux
# (benchmarks/results/memory_estimate.md).
UNMEASURED_FACTOR = 1.25
_SHARE_FOR_TRIAL = 0.5
# PyTorch rounds up what it takes of a GPU and keeps pieces. Assumed, not measured.
GPU_FACTOR = 1.1


@dataclass(frozen=True)
class StepGrowth:
    """Bytes of a pass for any batch and size.

    Args:
        sizes: Images and pixels of each, for every counted pass.
        peaks: Bytes of tensors in it.
        constant: b of the formula of this module, bytes.
        factor: k.
    """

    sizes: tuple[tuple[int, int], ...]
    peaks: tuple[float, ...]
    constant: float
    factor: float

    def bytes_of(self, batch_size: int, size_hw: Size) -> int:
        """Return what a pass takes at its peak."""
        wanted = batch_size, size_hw[0] * size_hw[1]
        return int(self.constant + self.factor * extrapolate(self.sizes, self.peaks, wanted))


def is_small(model: Any, load: Workload) -> bool:
    """Say whether a pass is so small that it is measured as it is."""
    frames = clip_length(model) or 1
    pixels = load.batch_size * frames * load.size_hw[0] * load.size_hw[1]
    return pixels <= DIRECT_PIXELS


def growth_of(trial: Any, load: Workload, on_gpu: bool = False) -> StepGrowth:
    """Run small passes and fit the formulas of this module.

    Args:
        trial: As :func:`.memory_trial.copy_to_cpu` makes it.
        load: What will run; its size is not used.
        on_gpu: For the memory of a GPU, of which only the tensors are known.
    """
    frames = clip_length(trial) or 1
    sides = _sides(frames)
    # Statistics of a batch normalisation need more than one value, where maps have one pixel.
    first = min(load.batch_size, 2) if load.training else 1
    points = [(first, side) for side in sides] + [(first + 1, sides[-1])]
    passes = [replace(load, batch_size=n, size_hw=(side, side)) for n, side in points]
    sizes = tuple((n, side * side) for n, side in points)
    peaks = tuple(counted_bytes(trial, one) for one in passes)
    if on_gpu:
        return StepGrowth(sizes, peaks, 0.0, GPU_FACTOR)
    large = _side_of(DIRECT_PIXELS, first * frames)
    told = extrapolate(sizes, peaks, (first, large * large))
    free = free_memory()
    # A trial must not be what does not fit.
    if free is not None and UNMEASURED_FACTOR * told > _SHARE_FOR_TRIAL * free:
        return StepGrowth(sizes, peaks, 0.0, UNMEASURED_FACTOR)
    taken = [
        taken_bytes(trial, one) for one in (passes[0], replace(passes[0], size_hw=(large, large)))
    ]
    return StepGrowth(sizes, peaks, *overhead([peaks[0], told], taken))


def _side_of(pixels: int, images: int) -> int:
    """Return the side of square images that have so many pixels together."""
    return max(int((pixels / images) ** 0.5) // _MULTIPLE, 3) * _MULTIPLE


def overhead(counted: Sequence[float], taken: Sequence[float | None]) -> tuple[float, float]:
    """Fit what a process takes to what its tensors take.

    Args:
        counted: Bytes of tensors of a small and of a larger pass.
        taken: Bytes of the process in them, None if unknown.

    Returns:
        b in bytes and k of the formula of this module.
    """
    if taken[0] is None or taken[1] is None:
        return 0.0, UNMEASURED_FACTOR
    slope = (taken[1] - taken[0]) / max(counted[1] - counted[0], 1)
    # Not steeper than through zero: b is not negative.
    factor = max(min(slope, taken[1] / counted[1]), 1.0)
    return max(taken[1] - factor * counted[1], 0.0), factor


def _sides(frames: int) -> Sequence[int]:
    """Return the sides to count at; all frames of a clip have the pixels of one image."""
    largest = _side_of(_SIDES[-1] ** 2, frames)
    if largest >= _SIDES[-1]:
        return _SIDES
    return largest - 2 * _MULTIPLE, largest - _MULTIPLE, largest


def extrapolate(
    sizes: Sequence[tuple[int, int]], peaks: Sequence[float], wanted: tuple[int, int]
) -> float:
    """Fit the first formula of this module to counted peaks and return its value elsewhere.

    Args:
        sizes: Images and pixels of each, for every measurement: the last is the one before with
            one image more.
        peaks: Bytes.
        wanted: Images and pixels to predict.
    """
    from scipy.optimize import nnls

    scale = float(max(pixels for _, pixels in sizes))

    def terms(pixels: int) -> list[float]:
        share = pixels / scale
        return [1.0, share, share**2]

    # Relative errors count, so that the smallest measurement is fitted as well as the largest.
    rows = np.array([terms(pixels) for _, pixels in sizes[:-1]]) / np.array(peaks[:-1])[:, None]
    factors, _ = nnls(rows, np.ones(len(rows)))
    growing = max(float(factors[1:].sum()), 1.0)  # of the largest measured size
    share = max(peaks[-1] - peaks[-2], 0.0) / growing
    images, pixels = wanted
    grown = float(factors[1:] @ np.array(terms(pixels)[1:]))
    return float(factors[0]) + grown * max(1 + share * (images - sizes[0][0]), 0.0)
