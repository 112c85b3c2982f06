"""Work on maps larger than memory: windows of them, maps in files, how far a network looks.

A window is computed from its surroundings, as wide as the network's receptive field; what the edge
of the surroundings has spoilt is cut off. Windows at the border of a map end there, so a network
pads them as it pads the whole map.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .enlarged_rows import Size
from .errors import ModelConfigError

_ITEM = 4  # bytes of a float32
_PROBE_CELLS = 1024


class Span(NamedTuple):
    """Places ``start`` to ``stop`` - 1 along one side."""

    start: int
    stop: int

    def widened(self, reach: int, length: int) -> 'Span':
        """Add ``reach`` places at both ends, as far as the side goes."""
        return Span(max(0, self.start - reach), min(length, self.stop + reach))

    def times(self, factor: int, length: int) -> 'Span':
        """Return the places of a side that is ``factor`` times as long, give or take its end."""
        return Span(self.start * factor, min(length, self.stop * factor))

    def within(self, outer: 'Span') -> slice:
        """Return where these places are among those of ``outer``."""
        return slice(self.start - outer.start, self.stop - outer.start)


class Window(NamedTuple):
    """A part of a map."""

    rows: Span
    columns: Span

    @property
    def size_hw(self) -> Size:
        """Height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def widened(self, reach: int, size_hw: Size) -> 'Window':
        """Add ``reach`` cells on all sides, as far as the map of this size goes."""
        return Window(self.rows.widened(reach, size_hw[0]), self.columns.widened(reach, size_hw[1]))

    def times(self, factor: int, size_hw: Size) -> 'Window':
        """Return the window of a map of this size, whose cells are ``factor`` times finer."""
        return Window(self.rows.times(factor, size_hw[0]), self.columns.times(factor, size_hw[1]))

    def cut(self, values: Tensor, outer: 'Window') -> Tensor:
        """Cut this window out of the values (…, h, w) of an outer one."""
        return values[..., self.rows.within(outer.rows), self.columns.within(outer.columns)]


def split(size_hw: Size, side: int) -> list[Window]:
    """Split a map into windows of at most ``side`` cells a side."""
    rows, columns = (
        [Span(start, min(start + side, length)) for start in range(0, length, side)]
        for length in size_hw
    )
    return [Window(down, across) for down in rows for across in columns]


class FileMap:
    """A map in a temporary file, written and read in windows.

    The file has no name and goes when the map goes, or the process. It lies in the folder for
    temporary files, which the environment variable ``TMPDIR`` names.

    Args:
        channels: C.
        size_hw: Height and width.
        device: Where what is read goes.

    Attributes:
        size_hw: Height and width.

    Raises:
        OSError: if the disk has no room for it.
    """

    def __init__(self, channels: int, size_hw: Size, device: torch.device) -> None:
        self.size_hw = size_hw
        self._channels, self._device = channels, device
        self._sum = torch.zeros(channels, dtype=torch.float64, device=device)
        folder, needed = tempfile.gettempdir(), size_hw[0] * size_hw[1] * channels * _ITEM
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise OSError(
                f'{folder}: a map of {channels} x {size_hw[0]} x {size_hw[1]} floats needs '
                f'{needed >> 20} MB, {free >> 20} MB are free: set TMPDIR to a folder with room'
            )
        self._file = tempfile.TemporaryFile()
        # Said outright, or Python warns of a file that nobody closed.
        weakref.finalize(self, self._file.close)

    @property
    def mean(self) -> Tensor:
        """Mean of each channel of what was written, (1, C, 1, 1) float32; each cell once."""
        height, width = self.size_hw
        return (self._sum / (height * width)).float()[None, :, None, None]

    def write(self, window: Window, values: Tensor) -> None:
        """Write (1, C, h, w) into a window.

        Raises:
            OSError: if the disk does not take it.
        """
        self._sum += values.double().sum((0, 2, 3))
        cells = values[0].float().permute(1, 2, 0).contiguous().cpu().numpy()
        for row, line in zip(range(*window.rows), cells, strict=True):
            self._transfer(os.pwrite, line, row, window.columns.start)

    def read(self, window: Window) -> Tensor:
        """Read a window, (1, C, h, w) float32, the channels last in memory."""
        cells = np.empty((*window.size_hw, self._channels), np.float32)
        for row, line in zip(range(*window.rows), cells, strict=True):
            self._transfer(_read_into, line, row, window.columns.start)
        return torch.from_numpy(cells).to(self._device).permute(2, 0, 1)[None]

    def rows(self, start: int, stop: int) -> Tensor:
        """See :class:`.enlarged_rows.Rows`."""
        return self.read(Window(Span(start, stop), Span(0, self.size_hw[1])))

    def _transfer(
        self, call: Callable[[int, Any, int], int], line: NDArray[Any], row: int, column: int
    ) -> None:
        """Move cells of a row; the system may do less than it is asked for at a time."""
        data = line.data.cast('B')
        at = (row * self.size_hw[1] + column) * self._channels * _ITEM
        while data:
            done = call(self._file.fileno(), data, at)
            if done == 0:
                raise OSError(f'{tempfile.gettempdir()}: a temporary file ended early')
            data, at = data[done:], at + done


def _read_into(file: int, data: memoryview, at: int) -> int:
    return os.preadv(file, [data], at)


def filled(
    size_hw: Size, side: int, compute: Callable[[Window], Tensor], done: Callable[[], Any]
) -> FileMap:
    """Compute a map window by window.

    Args:
        size_hw: Height and width of the map.
        side: Of the windows, in cells.
        compute: Gives the values (1, C, h, w) of a window.
        done: Called after each window.

    Raises:
        OSError: as :class:`FileMap`.
    """
    found: FileMap | None = None
    for window in split(size_hw, side):
        values = compute(window)
        if found is None:
            found = FileMap(values.shape[1], size_hw, values.device)
        found.write(window, values)
        done()
    assert found is not None
    return found


def enlarged(
    values: Tensor, window: Window, source_hw: Size, wanted: Window, full_hw: Size
) -> Tensor:
    """Enlarge a window of a map as ``F.interpolate(…, mode='bilinear')`` enlarges the map.

    Args:
        values: (B, C, h, w), the window.
        window: Which part of the map it is. Cells of the result that mix others are not right.
        source_hw: Height and width of the map.
        wanted: Window of the enlarged map.
        full_hw: Height and width of the enlarged map.

    Returns:
        (B, C, wanted height, wanted width).
    """
    for axis in (0, 1):
        first, second, weight = taps(wanted[axis], source_hw[axis], full_hw[axis], values.device)
        there = window[axis]
        before, after = (
            values.index_select(2 + axis, (cell - there.start).clamp(0, len(range(*there)) - 1))
            for cell in (first, second)
        )
        values = torch.lerp(before, after, weight[:, None] if axis == 0 else weight)
    return values


def sources(wanted: Window, source_hw: Size, full_hw: Size) -> Window:
    """Return a window of a map that holds all cells a window of the enlarged map mixes."""
    rows, columns = (
        Span(
            max(0, span.start * source // full - 1),
            min(source, -(-span.stop * source // full) + 1),
        )
        for span, source, full in zip(wanted, source_hw, full_hw, strict=True)
    )
    return Window(rows, columns)


def taps(span: Span, source: int, full: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells of a side that each place of the enlarged side mixes, and how.

    In float32, in the order of PyTorch's kernel: far from the start, rounding moves a place by
    thousandths of a cell.

    Args:
        span: Places of the enlarged side.
        source: Length of the side.
        full: Its length when enlarged.
        device: Where the results go.

    Returns:
        Both cells, int64, and the weight of the second.
    """
    scale = torch.tensor(source, dtype=torch.float32, device=device) / full
    place = ((torch.arange(*span, device=device) + 0.5) * scale - 0.5).clamp(min=0)
    first = place.long().clamp(max=source - 1)
    return first, (first + 1).clamp(max=source - 1), place - first


def reach_of(
    function: Callable[[Tensor], Tensor], channels: int, stride: int, device: torch.device
) -> int:
    """Measure how far a network looks: cells of its result around the one that a cell is seen in.

    One cell of a strip is not a number; what it spreads to sees it.

    Args:
        function: From (1, channels, h, w) to (1, C, h / stride, w / stride).
        channels: Channels of the input.
        stride: Side of a cell in the input.
        device: Where the network is.

    Raises:
        ModelConfigError: if a cell is seen everywhere, as a mean over the map would.
    """
    strip = torch.zeros((1, channels, stride, _PROBE_CELLS * stride), device=device)
    middle = _PROBE_CELLS // 2
    strip[..., middle * stride : (middle + 1) * stride] = torch.nan
    # First along a row, then along a column.
    spoilt = [function(probe).isnan()[0].any(0).flatten() for probe in (strip, strip.mT)]
    reach = int((torch.stack(spoilt).nonzero()[:, 1] - middle).abs().max())
    if reach >= middle - 1:
        raise ModelConfigError(
            f'this network looks {reach} cells of {stride} pixels far or further: it has no exact '
            'mode'
        )
    return reach
