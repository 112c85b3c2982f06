r"""How the memory of a pass grows with its images and their pixels, told from a few small passes.

.. math::

    p(n, s) = c + g(s) \, (1 + r (n - n_0)) + b_0 (n - n_0), \quad g(s) = a_1 s + a_2 s^2

is what the tensors take, gradients of parameters left out: n images of s pixels; the square is for
attention of every pixel to every other. It is fitted to counted tensors, which are exact, since
what is told lies far outside: three sizes of n_0 images, and the middle one with one image more.
That takes no more pixels than each of the others, so r is at most 1 / n_0, and less in a test,
which makes the masks of one image after the other; what it takes beyond that is the same for all
sizes, as of a number of proposals.

Gradients of parameters come while the maps of the pass go, so that of a small pass they are the
peak, and the larger it is the less they add to it. With them in p it would bend upwards, and a
bend is taken for attention. So they are told apart. What a process takes is

.. math:: m = b + k \, (p + G), \quad b \ge 0, k \ge 1

with all gradients G: pieces of memory that maps have left are rarely of the size that a gradient
wants (measured on ISDNet R-50, 2 images of 128 to 512 pixels: p + G is within 6 % of m). A GPU's
memory is given out by PyTorch, which uses such pieces again: there G is what they add to the
largest counted pass, which is no less than they will add to a larger one. b and k are measured on
the smallest and the largest of these passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from isda_suite.apis.videos.clip_pipeline import clip_length
from isda_suite.engine.memory import free_memory

from .memory_trial import Size, Workload, counted_peaks, taken_bytes

# Inputs of up to so many pixels, all frames and images together, are measured as they are.
DIRECT_PIXELS = 512 * 512
# Sides of smaller images whose tensors are counted otherwise.
_SMALL, _MIDDLE = 128, 256
_MULTIPLE = 32
# Where nothing tells the memory of a process: mean of what was measured on Linux
# (benchmarks/results/memory_estimate.md).
UNMEASURED_FACTOR = 1.25
# A trial must not be what does not fit: of the free memory it may take so much.
_SHARE_FOR_TRIAL = 0.8
# PyTorch rounds up what it takes of a GPU and keeps pieces. Assumed, not measured.
GPU_FACTOR = 1.1


@dataclass(frozen=True)
class StepGrowth:
    """Bytes of a pass for any batch and size.

    Args:
        sizes: Images and pixels of each, for every counted pass.
        peaks: Bytes of tensors in it, gradients of parameters left out.
        constant: b of the formula of this module, bytes.
        factor: k.
        gradients: G, bytes.
    """

    sizes: tuple[tuple[int, int], ...]
    peaks: tuple[float, ...]
    constant: float
    factor: float
    gradients: float = 0.0

    def bytes_of(self, batch_size: int, size_hw: Size) -> int:
        """Return what a pass takes at its peak."""
        wanted = batch_size, size_hw[0] * size_hw[1]
        tensors = extrapolate(self.sizes, self.peaks, wanted) + self.gradients
        return int(self.constant + self.factor * tensors)


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
    first = 2 if load.training and _has_batch_statistics(trial) else 1

    def sized(number: int, side: int) -> Workload:
        return replace(load, batch_size=number, size_hw=(side, side))

    @cache  # the smallest pass is asked for first, to see whether the others may run
    def peaks_of(number: int, side: int) -> tuple[int, int]:
        return counted_peaks(trial, sized(number, side))

    sides = _sides(first * (clip_length(trial) or 1))
    smallest, _ = peaks_of(first, sides[0])
    if smallest * (sides[2] / sides[0]) ** 2 > _SHARE_FOR_TRIAL * (free_memory() or math.inf):
        sides = _sides(first, max(sides[0], 3 * _MULTIPLE) ** 2)
    points = [(first, side) for side in sides] + [(first + 1, sides[1])]
    counted = [peaks_of(*point) for point in points]
    ends = 0, 2
    peaks = tuple(beside for _, beside in counted)
    gradients = counted[2][0] - peaks[2] if on_gpu else _bytes_of_gradients(trial, load)
    constant, factor = (
        (0.0, GPU_FACTOR)
        if on_gpu
        else overhead(
            [peaks[end] + gradients for end in ends],
            [taken_bytes(trial, sized(*points[end])) for end in ends],
        )
    )
    sizes = tuple((number, side * side) for number, side in points)
    return StepGrowth(sizes, peaks, constant, factor, gradients)


def _bytes_of_gradients(trial: nn.Module, load: Workload) -> int:
    if not load.training:
        return 0
    return sum(p.numel() * p.element_size() for p in trial.parameters() if p.requires_grad)


def _has_batch_statistics(trial: nn.Module) -> bool:
    """Say whether a normalisation needs more than one value, where maps have one pixel."""
    return any(isinstance(part, _BatchNorm) and part.training for part in trial.modules())


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


def _sides(images: int, pixels: int | None = None) -> tuple[int, int, int]:
    """Return the sides to count at.

    Args:
        images: Of a pass, the frames of clips among them.
        pixels: Of all images of the largest; None takes those of a small pass.
    """
    largest = _side_of(DIRECT_PIXELS if pixels is None else pixels, images)
    if largest > _MIDDLE:
        return _SMALL, _MIDDLE, largest
    return largest - 2 * _MULTIPLE, largest - _MULTIPLE, largest


def extrapolate(
    sizes: Sequence[tuple[int, int]], peaks: Sequence[float], wanted: tuple[int, int]
) -> float:
    """Fit the first formula of this module to counted peaks and return its value elsewhere.

    Args:
        sizes: Images and pixels of each, for every measurement: three sizes, then the second with
            one image more.
        peaks: Bytes.
        wanted: Images and pixels to predict.
    """
    from scipy.optimize import nnls

    first, scale = sizes[0][0], float(sizes[2][1])

    def terms(pixels: int) -> list[float]:
        share = pixels / scale
        return [1.0, share, share**2]

    # Relative errors count, so that the smallest measurement is fitted as well as the largest.
    rows = np.array([terms(pixels) for _, pixels in sizes[:3]]) / np.array(peaks[:3])[:, None]
    factors, _ = nnls(rows, np.ones(3))

    def grown(pixels: int) -> float:
        return float(factors[1:] @ np.array(terms(pixels)[1:]))

    images, pixels = wanted
    middle, more = grown(sizes[1][1]), max(peaks[3] - peaks[1], 0.0)
    share = min(more / max(middle, 1.0), 1 / first)
    always = max(more - middle / first, 0.0)
    others = images - first
    return float(factors[0]) + grown(pixels) * (1 + share * others) + always * others
