"""Names and colours of a segmentor's classes, and pictures with their classes drawn over them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.layers.enlarged_rows import Size

from .pictures import Picture, reduced

Array = NDArray[Any]
#: Of a drawn class map, in pixels; larger ones are reduced.
LONGEST_SIDE = 2048


def class_names(model: nn.Module, count: int) -> list[str]:
    """Return the names of a model's classes; numbers where it knows none."""
    meta: Any = model.dataset_meta
    names = list(meta.get('classes') or ())[:count]
    return names + [str(label) for label in range(len(names), count)]


def class_palette(model: nn.Module, count: int) -> list[Sequence[int]]:
    """Return the RGB colours of a model's classes; made up where it knows none."""
    with quiet_imports():
        from isda_suite.visualization.colours import class_colours

    meta: Any = model.dataset_meta
    palette = meta.get('palette')
    known = list(palette)[:count] if isinstance(palette, list | tuple) else []
    return [*known, *class_colours(count)[len(known) :]]


class OverlayDrawer:
    """Keep a reduced copy of a class map while it passes by, and draw it in the end.

    Args:
        size_hw: Height and width of the class map. The picture has at most 2048 pixels a side.
    """

    def __init__(self, size_hw: Size) -> None:
        self._factor = max(1, -(-max(size_hw) // LONGEST_SIDE))
        self._kept: list[Array] = []

    def watch(self, blocks: Iterator[Array]) -> Iterator[Array]:
        """Pass blocks of rows on, from top to bottom."""
        top = 0
        for block in blocks:
            self._kept.append(block[-top % self._factor :: self._factor, :: self._factor].copy())
            top += len(block)
            yield block

    def draw(self, path: Path, picture: Picture, model: nn.Module, num_classes: int) -> None:
        """Draw the classes over their picture, with a legend, into a file.

        Args:
            path: File to write; its suffix chooses the format.
            picture: What the classes belong to.
            model: For names and colours.
            num_classes: K.
        """
        with quiet_imports():
            from isda_suite.visualization.class_maps import draw_class_map
            from isda_suite.visualization.pictures import save_picture

        drawn = draw_class_map(
            reduced(picture, self._factor)[..., ::-1],
            np.concatenate(self._kept),
            class_names(model, num_classes),
            class_palette(model, num_classes),
        )
        save_picture(path, drawn)
