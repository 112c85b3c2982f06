"""What the two branches see of a window of an image, as they see it in the whole image."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isda_suite.layers.enlarged_rows import Size
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.windows import Span, Window, enlarged

if TYPE_CHECKING:
    from .segmentor import ISDNet

#: Reads a window of the image: (1, 3, h, w), normalised.
Read = Callable[[Window], Tensor]
_BAND_ROWS = 64  # of the deep input that are read at a time, for 4 x 4 pixels belong to each
_MARGIN = 4  # around a band, in its own pixels: more than filters reach


class InputWindows:
    """Windows of the inputs of the deep and of the shallow branch.

    Args:
        model: The segmentor.
        read: Reads a window of the image.
        size_hw: Height and width of the image.

    Attributes:
        size_hw: Height and width of the image.
        deep_hw: Height and width of the deep branch's input.

    Raises:
        ModelConfigError: if the sides of the image do not suit ``deep_sampling``.
    """

    def __init__(self, model: 'ISDNet', read: Read, size_hw: Size) -> None:
        self._model: Any = model
        self._read, self.size_hw, self.deep_hw = read, size_hw, deep_size(model, size_hw)
        self._nearest = [_nearest(*sides) for sides in zip(size_hw, self.deep_hw, strict=True)]

    def deep(self, window: Window) -> Tensor:
        """Compute a window of the deep branch's input, a band of rows at a time."""
        band_of = self._picked if self._model.deep_sampling == 'nearest' else self._filtered
        rows = window.rows
        bands = [
            Window(Span(start, min(start + _BAND_ROWS, rows.stop)), window.columns)
            for start in range(rows.start, rows.stop, _BAND_ROWS)
        ]
        return torch.cat([band_of(band) for band in bands], dim=2)

    def _picked(self, band: Window) -> Tensor:
        """Take the pixels that nearest sampling of the whole image takes."""
        places = [
            nearest[span.start : span.stop]
            for nearest, span in zip(self._nearest, band, strict=True)
        ]
        rows, columns = (Span(int(one[0]), int(one[-1]) + 1) for one in places)
        pixels = self._read(Window(rows, columns))
        for axis, span in enumerate((rows, columns)):
            pixels = pixels.index_select(2 + axis, (places[axis] - span.start).to(pixels.device))
        return pixels

    def _filtered(self, band: Window) -> Tensor:
        """Reduce with a filter, from a band with a margin."""
        model = self._model
        around = band.widened(_MARGIN, self.deep_hw)
        images = self._read(around.times(model.deep_ratio, self.size_hw))
        return band.cut(model.deep_input(images, model.pyramid(images)[1]), around)

    def residuals(self, window: Window) -> Tensor:
        """Compute a window of the shallow branch's input.

        Args:
            window: Its rows and columns begin at multiples of the pyramid's reduction.
        """

        def enlarge(level: int, part: Tensor) -> Tensor:
            rows, columns = (
                Span(span.start >> level, (span.start >> level) + length)
                for span, length in zip(window, part.shape[2:], strict=True)
            )
            source_hw = coarser(self.size_hw, 2**level)
            return enlarged(part, Window(rows, columns), source_hw, window, self.size_hw)

        found: Tensor = self._model.residuals(self._read(window), enlarge)[0]
        return found


def deep_size(model: 'ISDNet', size_hw: Size) -> Size:
    """Return height and width of the deep branch's input.

    Raises:
        ModelConfigError: if windows of it cannot be reduced as the whole is.
    """
    ratio, sampling = model.deep_ratio, model.deep_sampling
    if sampling == 'pyramid':
        return coarser(size_hw, ratio)
    if sampling != 'nearest' and any(side % ratio for side in size_hw):
        raise ModelConfigError(
            f'deep_sampling={sampling!r}: exact tiles need sides that {ratio} divides, got '
            f'{size_hw[0]} x {size_hw[1]}'
        )
    return size_hw[0] // ratio, size_hw[1] // ratio


def coarser(size_hw: Size, stride: int) -> Size:
    """Return the size of a map of this stride."""
    return -(-size_hw[0] // stride), -(-size_hw[1] // stride)


def _nearest(full: int, reduced: int) -> Tensor:
    """Return which of ``full`` pixels PyTorch's nearest sampling takes for each of ``reduced``."""
    places = torch.arange(full, dtype=torch.float64)[None, None, :, None]
    return F.interpolate(places, size=(reduced, 1), mode='nearest')[0, 0, :, 0].long()
