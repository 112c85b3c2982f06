"""Classes of the pixels of a picture of any size, within a budget of memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isda_suite.engine.errors import ConfigError
from isda_suite.layers.enlarged_rows import CroppedRows, EnlargedRows, Rows, argmax_blocks

from .coarse_logits import CoarseLogits, Cost
from .pictures import ArrayPicture, Picture, ScaledPicture
from .rasters import BandChoice
from .tile_choice import (
    Job,
    TileChoice,
    aligned,
    budget_bytes,
    choose_tile,
    with_overlap,
)
from .tiling import Axis, BlendedTiles, TileLogits, Window

Array = NDArray[Any]
_MEASURED_SIDE = 512


@dataclass(frozen=True)
class SegmentSettings:
    """How pictures are segmented.

    Args:
        scale: Sides of the network's input in sides of the picture; classes come at the size of
            the picture. The resizing of the configuration's test pipeline plays no role.
        tile: Side of tiles in pixels of the network's input; ``None``: one pass if it fits into
            the memory, else the largest tiles that do.
        overlap: Least common part of neighbouring tiles; ``None`` is an eighth of a tile.
        memory_mb: What the whole process may hold, or tensors on the GPU; ``None``: four fifths of
            what is free.
        exact: Tiles give the classes of one pass: what the network knows of the whole image is
            gathered first. Takes longer and disk for temporary files; for ISDNet.
        bands: Which bands of rasters are taken, and how they become bytes.

    Raises:
        ConfigError: if a value is out of range.
    """

    scale: float = 1.0
    tile: int | None = None
    overlap: int | None = None
    memory_mb: int | None = None
    exact: bool = False
    bands: BandChoice = field(default_factory=BandChoice)

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.scale <= 16:
            raise ConfigError(f'scale must lie above 0 and at most at 16, got {self.scale}')
        for name, least in (('tile', 1), ('overlap', 0), ('memory_mb', 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f'{name} must be at least {least}, got {value}')
        if self.exact and self.overlap is not None:
            raise ConfigError('exact tiles find their overlap themselves: leave overlap out')


class TiledSegmenter:
    """A segmentor that takes pictures of any size.

    A picture goes through the network in one pass if the estimate for it fits into the memory
    allowed, and in overlapping tiles otherwise. The estimate is what a pass over 512 x 512 pixels
    was measured to take, times the number of pixels, and a fifth more: right for networks of
    convolutions, too low for attention over all pixels.

    Args:
        model: A segmentor of mmseg from :func:`.model.load_model`.
        settings: How pictures are segmented.

    Raises:
        ConfigError: if the model is no segmentor, has more than 255 classes, or has no exact tiles
            where they are asked for.
    """

    def __init__(self, model: nn.Module, settings: SegmentSettings | None = None) -> None:
        self.settings = settings or SegmentSettings()
        self.network = CoarseLogits(model)
        if self.network.num_classes > 255:
            raise ConfigError(
                f'{self.network.num_classes} classes: class maps of bytes hold at most 255'
            )
        self._cost: Cost | None = None
        self._exact = self.network.exact_tiles() if self.settings.exact else None

    def segment(self, image: Array) -> Array:
        """Segment an array.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            (H, W) uint8, the class of each pixel.
        """
        picture = ArrayPicture(image)
        return np.concatenate(list(self.blocks(picture, self.choose(picture))))

    def choose(self, picture: Picture, held_bytes: int = 0) -> TileChoice:
        """Choose one pass or tiles for a picture.

        Args:
            picture: The picture.
            held_bytes: What reading and writing it will take beside the network.

        Raises:
            ConfigError: if not even the smallest tiles fit into the memory allowed.
        """
        settings, align = self.settings, self.network.align
        seen_hw = ScaledPicture(picture, settings.scale).size_hw
        if settings.tile is not None:
            tile = aligned(settings.tile, align)
            fits = max(seen_hw) <= tile
            if self._exact is not None and not fits:
                return TileChoice(tile, 0, None, exact=True)
            return with_overlap(None if fits else tile, settings.overlap, align, None)
        if self._cost is None:
            self._cost = self.network.measure(_MEASURED_SIDE)
            if self._exact is not None:
                self._cost = self.network.measure_exact(self._exact, self._cost)
        job = Job(seen_hw, picture.size_hw, held_bytes)
        budget = budget_bytes(settings.memory_mb, self.network.device)
        return choose_tile(self._cost, job, budget, align, settings.overlap, settings.exact)

    def num_tiles(self, picture: Picture, choice: TileChoice) -> int:
        """Return how many passes a choice means, or windows of all maps if it is exact."""
        seen = ScaledPicture(picture, self.settings.scale)
        if self._exact is not None and choice.exact:
            return int(self._exact.num_windows(seen.size_hw, choice.tile))
        rows, columns = self._axes(seen, choice)
        return len(rows.starts) * len(columns.starts)

    def blocks(
        self, picture: Picture, choice: TileChoice, on_tile: Callable[[], Any] = lambda: None
    ) -> Iterator[Array]:
        """Yield the classes of a picture from top to bottom.

        Args:
            picture: The picture.
            choice: From :meth:`choose`.
            on_tile: Called after each tile.

        Yields:
            (n, W) uint8, a few rows at a time.
        """
        seen = picture if self.settings.scale == 1 else ScaledPicture(picture, self.settings.scale)
        whole = (self._exact_rows if choice.exact else self._blended_rows)(seen, choice, on_tile)
        with torch.no_grad():
            for _, block in argmax_blocks(EnlargedRows(whole, picture.size_hw)):
                yield block[0].cpu().numpy()

    def _blended_rows(self, seen: Picture, choice: TileChoice, on_tile: Callable[[], Any]) -> Rows:
        def run(window: Window) -> TileLogits:
            found = self.network(seen.read(*window))
            on_tile()
            return found

        tiles = BlendedTiles(run, *self._axes(seen, choice), self.network.align)
        return CroppedRows(EnlargedRows(tiles, tiles.padded_hw), seen.size_hw)

    def _exact_rows(self, seen: Picture, choice: TileChoice, on_tile: Callable[[], Any]) -> Rows:
        def read(window: Any) -> Tensor:
            rows, columns = window
            return self.network.prepare_unpadded(
                seen.read(rows.start, columns.start, *window.size_hw)
            )

        assert self._exact is not None
        logits: Rows = self._exact.logits(read, seen.size_hw, choice.tile, on_tile)
        return EnlargedRows(logits, seen.size_hw)

    def _axes(self, seen: Picture, choice: TileChoice) -> tuple[Axis, Axis]:
        height, width = (
            Axis.spread(side, choice.tile or side, choice.overlap, self.network.align)
            for side in seen.size_hw
        )
        return height, width
