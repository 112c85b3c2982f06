"""Which part of a batch of images is padding, and which cells of their maps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class BatchSizes(NamedTuple):
    """Sizes of the images of a batch.

    Attributes:
        input_hw: Height and width of the batch.
        padded: (B, 2) int64 height and width of every image without padding, which begins at the
            right and at the bottom; ``None`` if no image has any.
    """

    input_hw: tuple[int, int]
    padded: Tensor | None

    @classmethod
    def of(cls, samples: Sequence[Any] | None, device: torch.device) -> 'BatchSizes':
        """Read the sizes from samples with ``batch_input_shape`` and ``img_shape``."""
        if not samples:
            raise RuntimeError('a transformer needs the samples of the batch, got none')
        height, width = samples[0].batch_input_shape
        sizes = [tuple(sample.img_shape[:2]) for sample in samples]
        if all(size == (height, width) for size in sizes):
            return cls((height, width), None)
        return cls((height, width), torch.tensor(sizes, device=device))


def padding_at(coarse: Tensor, input_hw: tuple[int, int], sizes: Tensor) -> Tensor:
    """Say which cells of a map are padding, by the pixel that nearest sampling takes for a cell.

    Args:
        coarse: (B, C, h, w), the map.
        input_hw: Size of what it is a map of.
        sizes: (B, 2) int64 height and width without padding.

    Returns:
        (B, h, w) bool.
    """
    axes = []
    for axis in (0, 1):
        cells = coarse.shape[axis + 2]
        pixels = torch.arange(cells, device=coarse.device) * input_hw[axis] // cells
        axes.append(pixels < sizes[:, axis, None])
    return ~(axes[0][:, :, None] & axes[1][:, None, :])
