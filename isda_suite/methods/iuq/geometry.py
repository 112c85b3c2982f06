"""Transformations that act on the padded canvas, so that image and features move exactly alike.

A pixel of a feature map of stride s stands for an s x s cell of the canvas. Mirroring, turning, and
cutting at multiples of s map cells to cells, so a feature map is transformed by moving its numbers
and nothing is interpolated. That a *network* commutes with them is what the term trains.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_coverage import bitmap_of
from isda_suite.registry import TASK_UTILS

_MAX_STRIDE = 32
_MAX_TRIES = 10


@dataclass(frozen=True)
class Geometry:
    """One transformation: cut, then mirror, then turn.

    Attributes:
        canvas_hw: Size it acts on.
        window: (top, left, height, width) in pixels, multiples of the strides it will meet.
        flip_x: Mirror left and right.
        flip_y: Mirror top and bottom.
        turns: Quarter turns against the clock.
        min_visible: Instances of which less than this share is left are dropped.
    """

    canvas_hw: tuple[int, int]
    window: tuple[int, int, int, int] | None = None
    flip_x: bool = False
    flip_y: bool = False
    turns: int = 0
    min_visible: float = 0.3

    def __call__(self, values: Tensor, stride: int = 1) -> Tensor:
        """Transform a map.

        Args:
            values: (..., H / stride, W / stride).
            stride: Pixels of the canvas per cell, along both axes.

        Returns:
            (..., h, w), with gradient where ``values`` has one.
        """
        top, left, height, width = self.window or (0, 0, *self.canvas_hw)
        rows = slice(top // stride, (top + height) // stride)
        cols = slice(left // stride, (left + width) // stride)
        values = values[..., rows, cols]
        axes = [axis for axis, on in ((-1, self.flip_x), (-2, self.flip_y)) if on]
        if axes:
            values = values.flip(axes)
        return torch.rot90(values, self.turns, (-2, -1)) if self.turns % 4 else values

    def aligned(self, stride: int) -> 'Geometry':
        """Enlarge the window to multiples of a stride, where the canvas goes on.

        Args:
            stride: Pixels of the canvas per cell of the coarsest map that will be transformed.
        """
        if self.window is None:
            return self
        corner = [start // stride * stride for start in self.window[:2]]
        ends = [
            min(-(-(start + length) // stride) * stride, side)
            for start, length, side in zip(
                self.window[:2], self.window[2:], self.canvas_hw, strict=True
            )
        ]
        size = [end - start for end, start in zip(ends, corner, strict=True)]
        return replace(self, window=(corner[0], corner[1], size[0], size[1]))

    def boxes(self, boxes: Tensor) -> Tensor:
        """Transform boxes (n, 4) xyxy and clip them to the window."""
        top, left, height, width = self.window or (0, 0, *self.canvas_hw)
        x1, y1, x2, y2 = (boxes - boxes.new_tensor([left, top, left, top])).unbind(-1)
        x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
        y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
        if self.flip_x:
            x1, x2 = width - x2, width - x1
        if self.flip_y:
            y1, y2 = height - y2, height - y1
        for _ in range(self.turns % 4):
            x1, y1, x2, y2 = y1, width - x2, y2, width - x1
            height, width = width, height
        return torch.stack([x1, y1, x2, y2], dim=-1)

    def samples(self, samples: Sequence[Any]) -> list[Any]:
        """Transform data samples; the originals stay as they are.

        Every one's valid area becomes the whole canvas, as padding need not be at the right and
        bottom any more, where heads look for it.
        """
        moved = []
        for sample in samples:
            new = sample.new()
            size_hw = self.size_hw
            new.set_metainfo(
                dict(
                    img_shape=size_hw, batch_input_shape=size_hw, pad_shape=size_hw, iuq_moved=True
                )
            )
            new.gt_instances = self._instances(sample.gt_instances)
            if 'ignored_instances' in sample:
                new.ignored_instances = self._instances(sample.ignored_instances)
            if 'gt_sem_seg' in sample:
                semantic = copy.deepcopy(sample.gt_sem_seg)
                semantic.sem_seg = self(semantic.sem_seg)
                new.gt_sem_seg = semantic
            moved.append(new)
        return moved

    @property
    def size_hw(self) -> tuple[int, int]:
        """Size of the transformed canvas."""
        height, width = self.window[2:] if self.window else self.canvas_hw
        return (width, height) if self.turns % 2 else (height, width)

    def _instances(self, instances: InstanceData) -> InstanceData:
        if len(instances) == 0:
            if 'masks' not in instances:
                return instances
            empty = instances.new()
            empty.masks = BitmapMasks(np.zeros((0, *self.size_hw), np.uint8), *self.size_hw)
            return empty
        kept: Any = slice(None)
        fields: dict[str, Any] = {'bboxes': self.boxes(_tensor_of(instances.bboxes))}
        if 'masks' in instances:
            masks = bitmap_of(instances.masks, self.canvas_hw, instances.labels.device)
            moved = self(masks)
            # A sum of 64 bits, the default, takes four times as long.
            area, left = (one.sum((1, 2), dtype=torch.int32) for one in (masks, moved))
            kept = left >= (self.min_visible * area).clamp(min=1)
            array = moved[kept].cpu().numpy()
            fields['masks'] = BitmapMasks(array, *self.size_hw)
            fields['bboxes'] = fields['bboxes'][kept]
        new = instances.new()
        new = new[kept]
        new.bboxes = fields['bboxes']
        if 'masks' in fields:
            new.masks = fields['masks']
        return new


def _tensor_of(boxes: Any) -> Tensor:
    """Return plain boxes; mmdet wraps them in a class of their own where a pipeline asks for it."""
    found: Tensor = boxes if isinstance(boxes, Tensor) else boxes.tensor
    return found


@TASK_UTILS.register_module()
class FlipX:
    """Mirror left and right."""

    def draw(self, canvas_hw: tuple[int, int], samples: Sequence[Any]) -> Geometry:
        """Return the transformation of a batch.

        Args:
            canvas_hw: Size of the padded batch.
            samples: Its data samples.
        """
        return Geometry(canvas_hw, flip_x=True)


@TASK_UTILS.register_module()
class FlipY:
    """Mirror top and bottom."""

    def draw(self, canvas_hw: tuple[int, int], samples: Sequence[Any]) -> Geometry:
        """Return the transformation of a batch, see :meth:`FlipX.draw`."""
        return Geometry(canvas_hw, flip_y=True)


@TASK_UTILS.register_module()
class Rot90:
    """Turn by 90, 180 or 270 degrees; images that are not square only by 180."""

    def draw(self, canvas_hw: tuple[int, int], samples: Sequence[Any]) -> Geometry:
        """Return the transformation of a batch, see :meth:`FlipX.draw`."""
        square = canvas_hw[0] == canvas_hw[1]
        return Geometry(canvas_hw, turns=int(torch.randint(1, 4, ())) if square else 2)


@TASK_UTILS.register_module()
class AlignedCrop:
    """Cut one window for the whole batch, its corners on multiples of the largest stride.

    Args:
        ratio: Least and largest share of the canvas' sides.
        min_visible: A window counts if an instance keeps this share of its area; others drop out.
        flip_prob: Probability of mirroring the window left and right as well.

    Raises:
        ModelConfigError: if ``ratio`` does not lie in (0, 1].
    """

    def __init__(
        self,
        ratio: tuple[float, float] = (0.5, 1.0),
        min_visible: float = 0.3,
        flip_prob: float = 0.0,
    ) -> None:
        if not 0 < ratio[0] <= ratio[1] <= 1:
            raise ModelConfigError(f'transform.ratio: expected 0 < low <= high <= 1, got {ratio}')
        self.ratio = ratio
        self.min_visible = min_visible
        self.flip_prob = flip_prob

    def draw(self, canvas_hw: tuple[int, int], samples: Sequence[Any]) -> Geometry:
        """Return the transformation of a batch, see :meth:`FlipX.draw`.

        The whole canvas is taken where no window of a few tries shows enough of any instance.
        """
        flip_x = bool(torch.rand(()) < self.flip_prob)
        boxes = [_tensor_of(s.gt_instances.bboxes).cpu() for s in samples if len(s.gt_instances)]
        whole = Geometry(canvas_hw, flip_x=flip_x, min_visible=self.min_visible)
        if not boxes:
            return whole
        for _ in range(_MAX_TRIES):
            window = self._window(canvas_hw)
            tried = Geometry(canvas_hw, window, flip_x, min_visible=self.min_visible)
            before, after = (_areas(b) for b in (torch.cat(boxes), tried.boxes(torch.cat(boxes))))
            if not bool((after >= self.min_visible * before.clamp(min=1)).any()):
                continue
            # Boxes are quick to look at; masks decide.
            if any(len(sample.gt_instances) for sample in tried.samples(samples)):
                return tried
        return whole

    def _window(self, canvas_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        corner, size = [], []
        for side in canvas_hw:
            low, high = (side * share for share in self.ratio)
            cells = side // _MAX_STRIDE
            least = min(max(-(-int(low) // _MAX_STRIDE), 1), cells) if cells else 0
            most = max(int(high) // _MAX_STRIDE, least)
            length = int(torch.randint(least, most + 1, ()))
            start = int(torch.randint(cells - length + 1, ())) if cells else 0
            corner.append(start * _MAX_STRIDE)
            size.append(length * _MAX_STRIDE if cells else side)
        return (corner[0], corner[1], size[0], size[1])


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


@TASK_UTILS.register_module()
class OneOf:
    """Choose one transformation a step.

    Args:
        transforms: Configs of the transformations, equally likely.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = [TASK_UTILS.build(one) for one in transforms]

    def draw(self, canvas_hw: tuple[int, int], samples: Sequence[Any]) -> Geometry:
        """Return the transformation of a batch, see :meth:`FlipX.draw`."""
        chosen = self.transforms[int(torch.randint(len(self.transforms), ()))]
        geometry: Geometry = chosen.draw(canvas_hw, samples)
        return geometry
