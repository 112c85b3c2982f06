"""Class maps from enlarged logits, a few rows at a time.

``F.interpolate(logits, size).argmax(1)`` of 7 classes at 5000 x 5000 pixels makes 700 MB of floats
to keep 25 MB of classes. Here the floats of a block of rows exist at a time, and the classes are
the same, ties included: every row is computed by PyTorch's own kernel, from the two rows of logits
that it mixes. Which two, and with which weight, is asked of the kernel too, for its rounding
depends on processor and version.

Axes: B images, K classes.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

Size = tuple[int, int]
#: Rows of floats that exist at a time.
BLOCK_ROWS = 64
# The kernel is another one, of other rounding, where height + width of the result are at most this.
# A map so narrow is small: it is enlarged in one piece.
_NARROW = 128


class Rows(Protocol):
    """Logits that are handed out in rows, from top to bottom.

    Attributes:
        size_hw: Height and width of the whole map.
    """

    size_hw: Size

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to ``stop`` - 1; ``start`` is never below that of a call before.

        Returns:
            (B, K, stop - start, width).
        """
        ...


class TensorRows:
    """Rows of a tensor, in float32.

    Args:
        logits: (B, K, h, w).
    """

    def __init__(self, logits: Tensor) -> None:
        # The kernels for channels_last and for half precision round differently.
        self.logits = logits.float().contiguous()
        self.size_hw: Size = (logits.shape[2], logits.shape[3])

    def rows(self, start: int, stop: int) -> Tensor:
        """See :class:`Rows`."""
        return self.logits[:, :, start:stop]


class CroppedRows:
    """The upper left part of a map.

    Args:
        source: The map.
        size_hw: Height and width to keep.
    """

    def __init__(self, source: Rows, size_hw: Size) -> None:
        self.source, self.size_hw = source, size_hw

    def rows(self, start: int, stop: int) -> Tensor:
        """See :class:`Rows`."""
        return self.source.rows(start, stop)[..., : self.size_hw[1]]


class EnlargedRows:
    """A map resized bilinearly, equal to ``F.interpolate`` (``align_corners=False``) bit for bit.

    Args:
        source: The map.
        size_hw: Height and width to give it.
    """

    def __init__(self, source: Rows, size_hw: Size) -> None:
        self.source, self.size_hw = source, size_hw
        self._taps: list[tuple[int, float]] = []
        self._start: Tensor | None = None  # the first rows, see _prepare

    def rows(self, start: int, stop: int) -> Tensor:
        """See :class:`Rows`."""
        height, width = self.size_hw
        if self.source.size_hw[0] == height:  # the kernel does not touch the rows then
            part = self.source.rows(start, stop)
            return part if self.source.size_hw[1] == width else _resize(part, part.shape[2], width)
        if self._start is None:
            self._start = self._prepare()
        ready = self._start[:, :, start:stop]
        if ready.shape[2] == stop - start:
            return ready
        found = ready.new_empty((*ready.shape[:2], stop - start, width))
        found[:, :, : ready.shape[2]] = ready
        first = self._taps[start + ready.shape[2]][0]
        part = self.source.rows(first, min(self._taps[stop - 1][0] + 2, self.source.size_hw[0]))
        for row in range(start + ready.shape[2], stop):
            upper, weight = self._taps[row]
            pair = part[:, :, upper - first : upper - first + 2]
            # Below the last row the kernel mixes it with itself.
            pair = pair.expand(-1, -1, 2, -1)
            # For the one row of such a result, this scale gives the weight without rounding.
            found[:, :, row - start] = _resize(pair, 1, width, 2 * weight + 1)[:, :, 0]
        return found

    def _prepare(self) -> Tensor:
        """Find the taps; return the rows that need row 0, or all rows of a narrow map.

        Weights below row 1 may be finer than what a scale can say, so these rows are computed
        together, as they lie in the whole.
        """
        (height, _), (full_height, full_width) = self.source.size_hw, self.size_hw
        if full_width < _NARROW:
            return _resize(self.source.rows(0, height), full_height, full_width)
        top = self.source.rows(0, min(height, 2))
        self._taps = _ask_for_taps(height, full_height, top.dtype, top.device)
        count = sum(upper == 0 for upper, _ in self._taps)
        if count == 0:
            return top.new_empty((*top.shape[:2], 0, full_width))
        if count == top.shape[2]:  # equal numbers of rows would be left as they are
            top = torch.cat([top, top[:, :, -1:]], dim=2)
        return _resize(top, count, full_width, height / full_height)


def enlarged_argmax(logits: Tensor, sizes: Sequence[Size], block_rows: int = BLOCK_ROWS) -> Tensor:
    """Enlarge logits bilinearly, once or several times, and return the class of each pixel.

    Equal to the arg-max of ``F.interpolate(…, size, mode='bilinear')`` for one size after the other
    on contiguous float32 logits; beyond the result, memory for ``block_rows`` rows is needed.

    Args:
        logits: (B, K, h, w); other floats are computed in float32.
        sizes: Heights and widths, the last one that of the result.
        block_rows: Rows of floats that exist at a time.

    Returns:
        (B, H, W): uint8, or int64 from 256 classes on, so that 255 stays free for ignored pixels.
    """
    source: Rows = TensorRows(logits)
    for size in sizes:
        source = EnlargedRows(source, size)
    return argmax(source, block_rows)


def argmax(source: Rows, block_rows: int = BLOCK_ROWS) -> Tensor:
    """Return the class of each pixel of a map.

    Args:
        source: The map of K classes.
        block_rows: Rows of floats that exist at a time.

    Returns:
        (B, H, W): uint8, or int64 from 256 classes on, so that 255 stays free for ignored pixels.
    """
    blocks = argmax_blocks(source, block_rows)
    _, first = next(blocks)
    classes = first.new_empty((len(first), *source.size_hw))
    for start, block in itertools.chain([(0, first)], blocks):
        classes[:, start : start + block.shape[1]] = block
    return classes


def argmax_blocks(source: Rows, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Tensor]]:
    """Yield the classes of a map from top to bottom.

    Args:
        source: The map of K classes.
        block_rows: Rows at a time.

    Yields:
        Number of the first row, and (B, rows, width): uint8, or int64 from 256 classes on.
    """
    height = source.size_hw[0]
    for start in range(0, height, block_rows):
        logits = source.rows(start, min(start + block_rows, height))
        # The first of several largest, as argmax takes; argmax itself is ten times slower on a CPU.
        classes = logits.max(1).indices
        yield start, classes if logits.shape[1] > 255 else classes.byte()


def _resize(part: Tensor, height: int, width: int, row_scale: float | None = None) -> Tensor:
    """Resize bilinearly; ``row_scale`` is rows of the source per row of the result."""
    scale = None if row_scale is None else 1 / row_scale
    size = [height, width]
    found: Tensor = torch.ops.aten.upsample_bilinear2d(part.contiguous(), size, False, scale, None)
    return found


@torch.compiler.assume_constant_result
def _ask_for_taps(
    height: int, full_height: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[int, float]]:
    """Return what the kernel mixes each row of the result from: upper row, weight of the next.

    A map whose rows hold 1 where their number is 0, 1 or 2 modulo 3 shows, enlarged, weights and
    place modulo 3 without rounding. Three rows more than there are keep the lower edge away.
    """
    more = height + 3 + (height + 3 == full_height)
    places = torch.arange(more, device=device) % 3
    pattern = torch.stack([places == rest for rest in range(3)]).to(dtype)[None, :, :, None]
    width = max(1, _NARROW + 1 - full_height)
    scale = height / full_height
    shares = _resize(pattern, full_height, width, scale)[0, :, :, 0].double().cpu()
    centre = (torch.arange(full_height, dtype=torch.float64) + 0.5) * scale - 0.5
    missing = (shares == 0).int()
    rest = torch.where(missing.sum(0) == 2, shares.argmax(0), (missing.argmax(0) + 1) % 3)
    weight = shares.gather(0, ((rest + 1) % 3)[None])[0]
    upper = ((centre.clamp(min=0) - weight - rest) / 3).round().long() * 3 + rest
    return list(zip(upper.tolist(), weight.tolist(), strict=True))
