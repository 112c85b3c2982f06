"""Pictures of any size that are read in windows: arrays, and any picture at another scale."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isda_suite.layers.enlarged_rows import Size

Array = NDArray[Any]
_STRIP = 256  # rows of a resized picture that are computed at a time, as floats


class Picture(Protocol):
    """Something to segment.

    Attributes:
        size_hw: Height and width in pixels.
    """

    size_hw: Size

    def read(self, top: int, left: int, height: int, width: int) -> Array:
        """Return a window of it, (height, width, 3) uint8 BGR."""
        ...


class ArrayPicture:
    """A picture in memory.

    Args:
        pixels: (H, W, 3) uint8 BGR.
    """

    def __init__(self, pixels: Array) -> None:
        self._pixels = pixels
        self.size_hw: Size = (pixels.shape[0], pixels.shape[1])

    def read(self, top: int, left: int, height: int, width: int) -> Array:
        """See :class:`Picture`."""
        return self._pixels[top : top + height, left : left + width]


class ScaledPicture:
    """A picture resized bilinearly, window by window, as if it had been resized in one piece.

    Pixels differ from OpenCV's ``INTER_LINEAR``, which rounds its weights to 11 bits, by one grey
    level at most.

    Args:
        source: The picture.
        scale: Sides of the result in sides of the source; they are rounded to whole pixels.
    """

    def __init__(self, source: Picture, scale: float) -> None:
        self._source = source
        height, width = source.size_hw
        self.size_hw: Size = (max(1, round(height * scale)), max(1, round(width * scale)))

    def read(self, top: int, left: int, height: int, width: int) -> Array:
        """See :class:`Picture`."""
        found = np.empty((height, width, 3), np.uint8)
        for start in range(0, height, _STRIP):
            rows = min(_STRIP, height - start)
            found[start : start + rows] = self._strip(top + start, left, rows, width)
        return found

    def _strip(self, top: int, left: int, height: int, width: int) -> Array:
        upper, lower, down = _taps(top, height, self.size_hw[0], self._source.size_hw[0])
        left_of, right_of, across = _taps(left, width, self.size_hw[1], self._source.size_hw[1])
        first_row, first_column = upper[0], left_of[0]
        part = self._source.read(
            first_row, first_column, lower[-1] - first_row + 1, right_of[-1] - first_column + 1
        ).astype(np.float32)
        above, below = part[upper - first_row], part[lower - first_row]
        rows = above + (below - above) * down[:, None, None]
        before, after = rows[:, left_of - first_column], rows[:, right_of - first_column]
        return np.rint(before + (after - before) * across[:, None]).astype(np.uint8)


def reduced(picture: Picture, factor: int) -> Array:
    """Return every ``factor``-th pixel of every ``factor``-th row, (rows, columns, 3) uint8 BGR."""
    height, width = picture.size_hw
    rows = [picture.read(row, 0, 1, width)[:, ::factor] for row in range(0, height, factor)]
    return np.concatenate(rows)


def _taps(start: int, count: int, length: int, source: int) -> tuple[Array, Array, Array]:
    """Return the two pixels of the source that each pixel lies between, and the second's weight."""
    centres = (np.arange(start, start + count) + 0.5) * (source / length) - 0.5
    first = centres.clip(0, source - 1).astype(int)
    return first, (first + 1).clip(max=source - 1), (centres.clip(0) - first).astype(np.float32)
