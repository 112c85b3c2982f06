"""Logits of a large picture from overlapping tiles, a strip of tiles at a time.

Tiles start at multiples of the network's stride, so the cells of their logits lie on the grid that
the logits of the whole picture would have. Logits are blended there, on the coarse grid, where a
strip over the full width is small; they are enlarged and turned into classes afterwards, as those
of a whole picture are.

In the overlap of two tiles the outer quarter at the edge of each is left out, where the network has
seen the padding at its edge, and the weights fall linearly in between. A network whose receptive
field reaches no further than that quarter gives the same logits as on the whole picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isda_suite.engine.errors import ConfigError
from isda_suite.layers.enlarged_rows import Size

#: Network input height and width of a tile's logits: pixels, and with the padding below and right.
TileLogits = tuple[Tensor, Size]
Window = tuple[int, int, int, int]
"""Top, left, height and width, in pixels."""


@dataclass(frozen=True)
class Axis:
    """Where tiles lie along one side of a picture, in pixels of the network's input.

    Args:
        length: The side.
        starts: First pixel of each tile.
        stops: Pixel after the last one of each tile.
    """

    length: int
    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @classmethod
    def spread(cls, length: int, tile: int, overlap: int, align: int) -> 'Axis':
        """Spread tiles evenly over a side.

        Args:
            length: The side.
            tile: Side of a tile, a multiple of ``align``; the last tile is up to ``align`` - 1
                longer.
            overlap: Least common part of neighbours, a multiple of ``align``.
            align: What tiles start at multiples of.
        """
        last = max(0, (length - tile) // align)
        count = -(-last * align // (tile - overlap))
        places = [round(last * index / count) * align for index in range(count)] if count else []
        starts = (*places, last * align)
        return cls(length, starts, (*(start + tile for start in places), length))


class BlendedTiles:
    """Logits of a picture, see :class:`.enlarged_rows.Rows`, computed where rows are asked for.

    Args:
        run: Gives the logits (1, K, h', w') of a window of the picture, and the height and width
            that the network saw: those of the window, or more after padding.
        vertical: Rows of tiles.
        horizontal: Columns of tiles.
        align: What tiles start at multiples of.

    Attributes:
        size_hw: Height and width of the grid of logits.
        padded_hw: Height and width of the picture as the network would see it in one piece.

    Raises:
        ConfigError: if the cells of the logits do not lie on one grid.
    """

    def __init__(
        self,
        run: Callable[[Window], TileLogits],
        vertical: Axis,
        horizontal: Axis,
        align: int,
    ) -> None:
        self._run, self._axes = run, (vertical, horizontal)
        # The last tile alone knows how padding and rounding end the grid.
        window = self._window(-1, -1)
        self._corner, seen = run(window)
        self.padded_hw: Size = (window[0] + seen[0], window[1] + seen[1])
        self.stride = self._find_stride(seen, align)
        self.size_hw: Size = (
            window[0] // self.stride + self._corner.shape[2],
            window[1] // self.stride + self._corner.shape[3],
        )
        self._weights = tuple(
            _weights(axis, length, self.stride)
            for axis, length in zip(self._axes, self.size_hw, strict=True)
        )
        self._strip = self._corner.new_zeros((*self._corner.shape[:2], 0, self.size_hw[1]))
        self._first = 0  # row of the grid that the strip begins with
        self._next = 0  # row of tiles to compute next

    def rows(self, start: int, stop: int) -> Tensor:
        """See :class:`.enlarged_rows.Rows`."""
        starts = self._axes[0].starts
        while self._next < len(starts) and starts[self._next] < stop * self.stride:
            self._drop_rows_before(min(start, starts[self._next] // self.stride))
            self._add_tiles(self._next)
            self._next += 1
        return self._strip[:, :, start - self._first : stop - self._first]

    def _find_stride(self, seen: Size, align: int) -> int:
        """Return the pixels per cell, which matter along the sides that have several tiles."""
        cells = self._corner.shape[2:]
        strides = {
            round(seen[side] / cells[side]) for side in (0, 1) if len(self._axes[side].starts) > 1
        }
        stride = strides.pop() if strides else 1
        if strides or stride < 1 or align % stride:
            raise ConfigError(
                f'an image of {tuple(seen)} pixels has {tuple(cells)} logits: only logits for '
                f'squares whose side divides {align} pixels can be put together from tiles'
            )
        return stride

    def _drop_rows_before(self, row: int) -> None:
        self._strip = self._strip[:, :, row - self._first :]
        self._first = row

    def _add_tiles(self, index: int) -> None:
        top, weights = self._weights[0][index]
        missing = top + len(weights) - self._first - self._strip.shape[2]
        empty = self._strip.new_zeros((*self._strip.shape[:2], missing, self.size_hw[1]))
        self._strip = torch.cat([self._strip, empty], dim=2)
        place = self._strip[:, :, top - self._first :]
        for column, (left, across) in enumerate(self._weights[1]):
            logits = self._logits(index, column)[:, :, : len(weights), : len(across)]
            if logits.shape[2:] != (len(weights), len(across)):
                raise ConfigError(
                    f'a tile has {tuple(logits.shape[2:])} logits, {len(weights), len(across)} '
                    'fit between its neighbours: this model cannot be used in tiles'
                )
            weight = weights[:, None] * across
            place[..., left : left + len(across)] += logits * weight.to(logits)

    def _logits(self, row: int, column: int) -> Tensor:
        vertical, horizontal = self._axes
        if (row, column) == (len(vertical.starts) - 1, len(horizontal.starts) - 1):
            return self._corner
        return self._run(self._window(row, column))[0]

    def _window(self, row: int, column: int) -> Window:
        vertical, horizontal = self._axes
        top, left = vertical.starts[row], horizontal.starts[column]
        return top, left, vertical.stops[row] - top, horizontal.stops[column] - left


def _weights(axis: Axis, length: int, stride: int) -> list[tuple[int, Tensor]]:
    """Return first cell and weights of each tile along one side; they add up to 1 in every cell."""
    firsts = [start // stride for start in axis.starts]
    ends = [*(stop // stride for stop in axis.stops[:-1]), length]
    raw = []
    for index, (first, end) in enumerate(zip(firsts, ends, strict=True)):
        cells = torch.arange(end - first) + 0.5
        before = ends[index - 1] - first if index else 0
        after = end - firsts[index + 1] if index + 1 < len(firsts) else 0
        raw.append(torch.minimum(_ramp(cells, before), _ramp(cells, after).flip(0)))
    total = torch.zeros(length)
    for first, weights in zip(firsts, raw, strict=True):
        total[first : first + len(weights)] += weights
    return [
        (first, weights / total[first : first + len(weights)])
        for first, weights in zip(firsts, raw, strict=True)
    ]


def _ramp(cells: Tensor, overlap: int) -> Tensor:
    """Return weights that rise from 0 to 1 in the middle half of an overlap at the start."""
    if overlap == 0:
        return torch.ones_like(cells)
    return ((cells - overlap / 4) / (overlap / 2)).clamp(0, 1)
