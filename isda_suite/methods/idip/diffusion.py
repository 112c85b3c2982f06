"""The diffusion of boxes: schedule, noising, and the way back.

Pure functions of tensors and of a stream of random numbers. A *signal box* is what is diffused:
(cx, cy, w, h) of a box as shares of the image, mapped from [0, 1] to [-s, s], s the signal scale.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from torch import Tensor

from isda_suite.layers.option_checks import require_at_least

from .options import InferenceOptions
from .randomness import ImageNoise

# The smallest side of a box as a share of the image's side.
MIN_SIDE = 1e-4
# Boxes (B, N, 4) xyxy in pixels and times (B,) -> logits (B, N, K), boxes (B, N, 4) xyxy in pixels
# and features (B, N, C).
Head = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class DiffusionSchedule:
    r"""The cosine schedule, in double precision.

    .. math:: f(u) = \cos^2\left(\frac{u/T + 0.008}{1.008} \frac{\pi}{2}\right), \quad
        \beta_t = \min(1 - f(t + 1) / f(t), 0.999), \quad \bar\alpha_t = \prod_{s \le t} (1-\beta_s)

    Args:
        num_steps: T, its length.
        signal_scale: s.

    Source: improved DDPM (arXiv:2102.09672), section 3.2; IDIP (doi 10.3233/FAIA230485).
    """

    def __init__(self, num_steps: int = 1000, signal_scale: float = 1.0) -> None:
        require_at_least('diffusion.num_steps', num_steps, 1)
        self.num_steps = num_steps
        self.signal_scale = signal_scale
        at = (np.arange(num_steps + 1, dtype=np.float64) / num_steps + 0.008) / 1.008
        level = np.cos(at * math.pi * 0.5) ** 2
        self.alphas = 1 - np.clip(1 - level[1:] / level[:-1], 0, 0.999)
        self.alphas_cumprod = np.cumprod(self.alphas)

    def to_signal(self, boxes_norm: Tensor) -> Tensor:
        """Turn (..., 4) boxes cxcywh in [0, 1] into signal boxes."""
        return (2 * boxes_norm - 1) * self.signal_scale

    def to_boxes(self, signal: Tensor, size_hw: tuple[int, int] | None = None) -> Tensor:
        """Turn signal boxes into boxes inside the image.

        Args:
            signal: (N, 4) signal boxes of any value.
            size_hw: Size of the image without padding; ``None`` gives shares of it.

        Returns:
            (N, 4) xyxy in pixels, or in [0, 1]; no side is negative.
        """
        boxes = ((signal / self.signal_scale + 1) / 2).clamp(0, 1)
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:].clamp(min=MIN_SIDE)], dim=-1)
        boxes = bbox_cxcywh_to_xyxy(boxes).clamp(0, 1)
        return boxes if size_hw is None else boxes * _sides(boxes, size_hw)

    def sampling_times(self, steps: int) -> list[tuple[int, int]]:
        """List the times of a way back in ``steps`` steps: pairs (now, next), -1 at the end."""
        times = torch.linspace(-1, self.num_steps - 1, steps + 1).int().tolist()
        return list(pairwise(reversed(times)))


def add_noise(
    gt_boxes: Tensor,
    size_hw: tuple[int, int],
    num_proposals: int,
    noise: ImageNoise,
    schedule: DiffusionSchedule,
) -> tuple[Tensor, int]:
    r"""Make the noisy boxes of a training image.

    .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon

    Fewer targets than proposals are filled up with random boxes, of more a random part is taken.

    Args:
        gt_boxes: (G, 4) xyxy in pixels; G may be 0.
        size_hw: Size of the image without padding.
        num_proposals: N.
        noise: Random numbers of the image.
        schedule: The schedule, which also gives the number of times.

    Returns:
        (N, 4) float32 xyxy in pixels, and the time.
    """
    boxes = bbox_xyxy_to_cxcywh(gt_boxes.float() / _sides(gt_boxes, size_hw))
    count = len(boxes)
    if count < num_proposals:
        placeholders = schedule.to_boxes(noise.normal(num_proposals - count).to(boxes.device))
        boxes = torch.cat([boxes, bbox_xyxy_to_cxcywh(placeholders)])
    elif count > num_proposals:
        boxes = boxes[noise.choice(count, num_proposals).to(boxes.device)]
    time = noise.time(schedule.num_steps)
    kept = float(schedule.alphas_cumprod[time])
    random = noise.normal(num_proposals).to(boxes.device)
    start = schedule.to_signal(boxes).double()
    signal = math.sqrt(kept) * start + math.sqrt(1 - kept) * random.double()
    return schedule.to_boxes(signal.float(), size_hw), time


@dataclass
class SamplingStep:
    """What happened in one step of the way back, for B images and N proposals.

    Attributes:
        time: Time that the head was told.
        signal: (B, N, 4) signal boxes at the start, not clamped.
        boxes_in: (B, N, 4) xyxy in pixels that the head got.
        logits: (B, N, K) of the head.
        boxes: (B, N, 4) xyxy in pixels of the head, not clipped.
        features: (B, N, C) of the head.
        kept: (B, N) bool, the proposals that renewal keeps for the next step.
    """

    time: int
    signal: Tensor
    boxes_in: Tensor
    logits: Tensor
    boxes: Tensor
    features: Tensor
    kept: Tensor


def join_steps(steps: Sequence[SamplingStep]) -> SamplingStep:
    """Put the proposals of several steps side by side, for an ensemble of their predictions.

    Args:
        steps: S steps of the same batch.

    Returns:
        A step of S * N proposals, the first step's first; its time is the last one's.
    """
    names = ('signal', 'boxes_in', 'logits', 'boxes', 'features', 'kept')
    return SamplingStep(
        steps[-1].time, *(torch.cat([getattr(step, name) for step in steps], 1) for name in names)
    )


def sample_boxes(
    head: Head,
    sizes_hw: Sequence[tuple[int, int]],
    noises: Sequence[ImageNoise],
    num_proposals: int,
    schedule: DiffusionSchedule,
    options: InferenceOptions,
    device: torch.device | str = 'cpu',
) -> Iterator[SamplingStep]:
    """Turn random boxes into predictions, step by step; the last step is the result.

    Args:
        head: What predicts boxes from boxes.
        sizes_hw: Sizes of the B images without padding.
        noises: Random numbers of the B images.
        num_proposals: N.
        schedule: The schedule.
        options: Steps and kind of sampling.
        device: Where the head works.

    Yields:
        Every step.
    """
    whole = options.sampling_type == 'DDPM'
    steps = schedule.num_steps if whole else options.sampling_steps
    deterministic = options.deterministic and not whole
    signal = torch.stack([noise.normal(num_proposals) for noise in noises]).to(device)
    for now, following in schedule.sampling_times(steps):
        boxes_in = torch.stack(
            [schedule.to_boxes(x, size) for x, size in zip(signal, sizes_hw, strict=True)]
        )
        times = torch.full((len(signal),), now, device=device)
        logits, boxes, features = head(boxes_in, times)
        kept = logits.float().amax(-1).sigmoid() > options.renewal_thr
        yield SamplingStep(now, signal, boxes_in, logits, boxes, features, kept)
        if following < 0:
            return
        mix = mixture(schedule, now, following, deterministic)
        signal = torch.stack(
            [
                _step_back(*image, schedule, mix)
                for image in zip(signal, boxes, kept, sizes_hw, noises, strict=True)
            ]
        )


@dataclass
class Mixture:
    """Factors of a step: x_now = root * x_0 + rest * eps; x_next = start, direction, random."""

    root: float
    rest: float
    start: float
    direction: float
    random: float


def mixture(schedule: DiffusionSchedule, now: int, following: int, still: bool) -> Mixture:
    """Compute the factors of a step.

    Args:
        schedule: The schedule.
        now: Time of the step.
        following: Time of the next one, at least 0.
        still: Whether no noise is added.
    """
    a_now, a_next = (float(schedule.alphas_cumprod[t]) for t in (now, following))
    sigma = 0.0
    if not still:
        sigma = math.sqrt(1 - a_now / a_next) * math.sqrt((1 - a_next) / (1 - a_now))
    direction = math.sqrt(1 - a_next - sigma**2)
    return Mixture(math.sqrt(a_now), math.sqrt(1 - a_now), math.sqrt(a_next), direction, sigma)


def _step_back(
    signal: Tensor,
    boxes: Tensor,
    kept: Tensor,
    size_hw: tuple[int, int],
    noise: ImageNoise,
    schedule: DiffusionSchedule,
    mix: Mixture,
) -> Tensor:
    """Compute the signal boxes (N, 4) of an image at the next time, renewed ones at the end."""
    start = bbox_xyxy_to_cxcywh(boxes.float() / _sides(boxes, size_hw)).clamp(0, 1)
    start = schedule.to_signal(start)
    direction = (signal - mix.root * start) / mix.rest
    start, direction = start[kept], direction[kept]
    # Compat: drawn also when it counts for nothing, so that the stream is the published one.
    random = noise.normal(len(start)).to(signal.device)
    moved = mix.start * start + mix.direction * direction + mix.random * random
    return torch.cat([moved, noise.normal(len(signal) - len(start)).to(signal.device)])


def _sides(like: Tensor, size_hw: tuple[int, int]) -> Tensor:
    height, width = size_hw
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=like.device)
