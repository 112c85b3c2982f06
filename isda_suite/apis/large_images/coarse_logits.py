"""A segmentor as a function from pixels to the logits of its own, coarse grid."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.memory import peak_of
from isda_suite.layers.enlarged_rows import Size

_PROBE_SIDE = 128
# Of a reduction that a network may begin with: what a tile's place must be a multiple of.
_ALIGN = 32


class Cost(NamedTuple):
    """What a pass takes per pixel.

    Attributes:
        peak_bytes: Memory at its peak; ``None`` where the kernel does not tell.
        logits: Numbers that come out.
        num_classes: K.
        parts: Of exact tiles, for each part of the network that runs alone: memory at its peak,
            and how many pixels around a tile it takes too.
    """

    peak_bytes: float | None
    logits: float
    num_classes: int
    parts: tuple[tuple[float, int], ...] = ()


class CoarseLogits:
    """Normalise, pad and run pictures through a segmentor, up to its logits before enlargement.

    These are what ``class_logits(images)`` gives if the segmentor has it, or else mode ``tensor``,
    if its ``encode_decode`` is found to enlarge just these; otherwise those of ``encode_decode``,
    at the size of the input.

    Args:
        model: From :func:`.model.load_model`.

    Attributes:
        num_classes: K.
        align: Sides and places of tiles must be multiples of this many pixels.

    Raises:
        ConfigError: if the model is no segmentor of mmseg.
    """

    def __init__(self, model: nn.Module) -> None:
        if not hasattr(model, 'encode_decode'):
            raise ConfigError(
                f'{type(model).__name__} is no segmentor of mmseg: it has no encode_decode'
            )
        segmentor: Any = model
        self._model = segmentor
        self.device = next(model.parameters()).device
        padding = getattr(segmentor.data_preprocessor, 'test_cfg', None) or {}
        self.align = math.lcm(_ALIGN, padding.get('size_divisor') or 1)
        self._forward = self._choose_forward()
        self.num_classes = max(2, int(segmentor.out_channels))

    def __call__(self, pixels: NDArray[Any]) -> tuple[Tensor, Size]:
        """Compute the logits of a picture.

        Args:
            pixels: (h, w, 3) uint8 BGR.

        Returns:
            (1, K, h', w') float32, and the height and width after padding.
        """
        with torch.no_grad():
            inputs = self._prepare(pixels)
            logits = self._forward(inputs).float()
            if logits.shape[1] == 1:
                logits = _two_classes(logits, self._model.decode_head.threshold)
        return logits, (inputs.shape[2], inputs.shape[3])

    def measure(self, side: int) -> Cost:
        """Measure what a pass over a square of this side takes.

        Networks of convolutions take as much for every pixel; the share of what is the same at
        every size makes the number too large for larger pictures, not too small.
        """
        pixels = np.zeros((side, side, 3), np.uint8)
        (logits, _), peak = peak_on(self.device, lambda: self(pixels))
        per_pixel = None if peak is None else peak / side**2
        return Cost(per_pixel, logits.numel() / side**2, self.num_classes)

    def exact_tiles(self) -> Any:
        """Return what computes the logits of one pass in windows.

        Raises:
            ConfigError: if the segmentor has no such thing.
        """
        if not hasattr(self._model, 'exact_tiles'):
            raise ConfigError(
                f'{type(self._model).__name__} has no exact tiles, only ISDNet has: leave exact out'
            )
        return self._model.exact_tiles()

    def prepare_unpadded(self, pixels: NDArray[Any]) -> Tensor:
        """Normalise a picture: (h, w, 3) uint8 BGR to (1, 3, h, w).

        Raises:
            ConfigError: if the model's configuration pads pictures.
        """
        inputs = self._prepare(pixels)
        if inputs.shape[2:] != pixels.shape[:2]:
            raise ConfigError(
                f'{tuple(pixels.shape[:2])} pixels are padded to {tuple(inputs.shape[2:])}: exact '
                'tiles need a model without data_preprocessor.test_cfg'
            )
        return inputs

    def measure_exact(self, tiles: Any, cost: Cost) -> Cost:
        """Measure what the parts of exact tiles take.

        Args:
            tiles: From :meth:`exact_tiles`.
            cost: From :meth:`measure`.
        """
        if cost.peak_bytes is None:
            return cost
        peaks = []
        for part in tiles.parts():
            with torch.no_grad():
                _, peak = peak_on(self.device, part.run)
            peaks.append(((peak or 0) / part.pixels, part.reach))
        return cost._replace(parts=tuple(peaks))

    def _prepare(self, pixels: NDArray[Any]) -> Tensor:
        with quiet_imports():
            from mmseg.structures import SegDataSample
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        size_hw = pixels.shape[:2]
        sample = SegDataSample(metainfo=dict(img_shape=size_hw, ori_shape=size_hw))
        batch = dict(inputs=[planes], data_samples=[sample])
        found: Tensor = self._model.data_preprocessor(batch, False)['inputs']
        return found

    def _choose_forward(self) -> Callable[[Tensor], Tensor]:
        if hasattr(self._model, 'class_logits'):
            forward: Callable[[Tensor], Tensor] = self._model.class_logits
            return forward
        noise = np.random.default_rng(0).integers(0, 256, (_PROBE_SIDE, _PROBE_SIDE, 3), np.uint8)
        with torch.no_grad():
            inputs = self._prepare(noise)
            expected = self._encode_decode(inputs)
            try:
                coarse = self._raw(inputs)
                enlarged = F.interpolate(coarse, expected.shape[2:], mode='bilinear')
            # Whatever a head does in this mode, it is not what is looked for.
            except Exception:
                return self._encode_decode
        same = enlarged.shape == expected.shape and torch.allclose(enlarged, expected, atol=1e-4)
        return self._raw if same else self._encode_decode

    def _raw(self, inputs: Tensor) -> Tensor:
        found: Tensor = self._model(inputs, None, mode='tensor')
        return found

    def _encode_decode(self, inputs: Tensor) -> Tensor:
        size_hw = tuple(inputs.shape[2:])
        meta = dict(img_shape=size_hw, ori_shape=size_hw, pad_shape=size_hw, padding_size=[0] * 4)
        found: Tensor = self._model.encode_decode(inputs, [meta])
        return found


def _two_classes(logits: Tensor, threshold: float) -> Tensor:
    """Turn the one logit of a binary segmentor into two whose arg-max is its decision."""
    return torch.cat([torch.full_like(logits, math.log(threshold / (1 - threshold))), logits], 1)


def peak_on(device: torch.device, action: Callable[[], Any]) -> tuple[Any, int | None]:
    """Run something; measure how far the memory in use rises above its start.

    Args:
        device: A GPU, or the CPU for the memory of this process.
        action: What to run.

    Returns:
        What it returns, and bytes; None for these if they cannot be known.
    """
    if device.type != 'cuda':
        return peak_of(action)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = action()
    return result, torch.cuda.max_memory_allocated(device) - before
