"""Whether a picture goes through the network in one pass or in tiles, by a budget of memory."""

from dataclasses import dataclass

import torch

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.memory import free_memory, used_memory
from isda_suite.layers.enlarged_rows import BLOCK_ROWS, Size

from .coarse_logits import Cost

LARGEST, SMALLEST = 2048, 256
#: Side of tiles where memory cannot be measured.
BLIND = 1024
# Other networks and sizes than the measured ones may take more per pixel.
_MARGIN = 1.2
# Pixels as bytes, once as read and once in the order of planes.
_PIXEL_BYTES = 6
# Of a resized picture: 256 rows as floats, in five versions at a time.
_RESIZE_BYTES = 256 * 5 * 12


@dataclass(frozen=True)
class Job:
    """A picture and where its classes go.

    Args:
        seen_hw: Height and width of the network's input.
        size_hw: Height and width of the picture.
        held_bytes: What reading and writing take beside the network.
    """

    seen_hw: Size
    size_hw: Size
    held_bytes: int


@dataclass(frozen=True)
class TileChoice:
    """How a picture goes through the network.

    Args:
        tile: Side of the tiles in pixels of the network's input; ``None`` is one pass.
        overlap: Least common part of neighbouring tiles.
        estimate: Bytes it should take at most above those in use, ``None`` if unknown.
        exact: Whether tiles give the logits of one pass, from surroundings as wide as needed.
    """

    tile: int | None
    overlap: int
    estimate: float | None
    exact: bool = False


def budget_bytes(memory_mb: int | None, device: torch.device) -> int | None:
    """Return the bytes that may still be taken.

    Args:
        memory_mb: Of the whole process, its libraries and the model included, or of tensors on the
            GPU; ``None`` takes four fifths of what is free.
        device: Where the model is.
    """
    if memory_mb is None:
        if device.type == 'cuda':
            free: int | None = torch.cuda.mem_get_info(device)[0]
        else:
            free = free_memory()
        return None if free is None else free * 4 // 5
    used = torch.cuda.memory_allocated(device) if device.type == 'cuda' else used_memory()
    return (memory_mb << 20) - (used or 0)


def estimate_bytes(cost: Cost, job: Job, tile: int | None) -> float | None:
    """Estimate what a picture takes at its peak, in tiles of this side or in one pass.

    Tiles are exact if the cost has parts.
    """
    if cost.peak_bytes is None:
        return None
    height, width = job.seen_hw
    rows, columns = (height, width) if tile is None else (min(tile, height), min(tile, width))
    parts = cost.parts if tile is not None and cost.parts else ((cost.peak_bytes, 0),)
    one_pass = max(
        (peak * _MARGIN + _PIXEL_BYTES)
        * min(rows + 2 * around, height)
        * min(columns + 2 * around, width)
        for peak, around in parts
    )
    # The strip of logits, twice while it moves on.
    strip = 2 * 4 * cost.logits * rows * width
    blocks = 3 * 4 * cost.num_classes * BLOCK_ROWS * max(width, job.size_hw[1])
    resizing = _RESIZE_BYTES * columns if job.seen_hw != job.size_hw else 0
    return one_pass + strip + blocks + resizing + job.held_bytes


def choose_tile(
    cost: Cost, job: Job, budget: int | None, align: int, overlap: int | None, exact: bool = False
) -> TileChoice:
    """Choose one pass if that fits into the budget, else the largest tiles that do.

    Args:
        cost: Of a pass, per pixel.
        job: The picture.
        budget: Bytes, ``None`` if unknown.
        align: What sides of tiles are multiples of.
        overlap: As in :class:`TileChoice`; ``None`` is an eighth of a tile.
        exact: As in :class:`TileChoice`.

    Raises:
        ConfigError: if not even the smallest tiles fit.
    """

    def chosen(tile: int | None, needed: float | None) -> TileChoice:
        if exact and tile is not None:
            return TileChoice(tile, 0, needed, exact=True)
        return with_overlap(tile, overlap, align, needed)

    if cost.peak_bytes is None or budget is None:
        return chosen(None if max(job.seen_hw) <= BLIND else BLIND, None)
    sides = [None, *range(LARGEST, SMALLEST - 1, -SMALLEST)]
    for side in sides:
        tile = None if side is None else aligned(side, align)
        needed = estimate_bytes(cost, job, tile)
        if needed is not None and needed <= budget:
            return chosen(tile, needed)
    raise ConfigError(
        f'{budget / 2**20:.0f} MB are left of the memory allowed, tiles of {SMALLEST} pixels need '
        f'about {(needed or 0) / 2**20:.0f} MB: allow more with memory_mb'
    )


def with_overlap(
    tile: int | None, overlap: int | None, align: int, needed: float | None
) -> TileChoice:
    """Bring an overlap to what fits a tile.

    Raises:
        ConfigError: if it is more than half of the tile.
    """
    if tile is None:
        return TileChoice(None, 0, needed)
    common = aligned(tile // 8 if overlap is None else overlap, align)
    if common > tile // 2:
        raise ConfigError(
            f'tiles of {tile} pixels cannot overlap by {common}: at most half a tile; tiles and '
            f'overlaps are rounded up to multiples of {align}'
        )
    return TileChoice(tile, common, needed)


def aligned(pixels: int, align: int) -> int:
    """Round up to a multiple."""
    return -(-pixels // align) * align
