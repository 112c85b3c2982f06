"""Pictures of what queries answer, on their own image and on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import with_caption

Array = NDArray[Any]
_WHITE = 255
_GAP = 4
_BLOCK_GAP = 16
_OUTLINE = (0, 255, 0)
_SHADE = 0.35  # how much of the grey image shines through a response


@dataclass
class ResponsePanel:
    """A response on an image.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        response: (h, w) in 0..1, of any resolution; NaN where the query was not asked. ``None``
            stands for a model without a query for the instance.
        caption: A line above.
    """

    picture: Array
    response: Array | None
    caption: str


@dataclass
class ResponseRow:
    """A query: its image with its instance, and what it answers, for each model.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, of the instance.
        caption: A line above.
        blocks: For each model its panels.
    """

    picture: Array
    mask: Array
    caption: str
    blocks: list[list[ResponsePanel]]


def draw_responses(
    rows: Sequence[ResponseRow], titles: Sequence[str], cell_side: int = 200
) -> Array:
    """Draw a grid: a row for each query, a block of columns for each model.

    Args:
        rows: Queries, with equally many blocks and panels.
        titles: Names of the models, one a block.
        cell_side: Longer side of each image in the grid.

    Returns:
        The picture, RGB.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError('a grid of responses needs at least one query')
    drawn = []
    for row in rows:
        own = _cell(draw_outline(row.picture, row.mask), row.caption, cell_side)
        blocks = [
            _side_by_side([_panel(panel, cell_side) for panel in block], _GAP)
            for block in row.blocks
        ]
        drawn.append([own, *blocks])
    columns = []
    for number, title in enumerate(['', *titles]):
        column = _below([parts[number] for parts in drawn], _GAP)
        columns.append(with_caption(column, title) if number else with_caption(column, 'instance'))
    return _below([_side_by_side(columns, _BLOCK_GAP), _scale(cell_side)], _BLOCK_GAP)


def draw_outline(picture: Array, mask: Array) -> Array:
    """Draw the outline of a mask (H, W) on a picture of the same size."""
    canvas = np.ascontiguousarray(picture).copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thick = max(1, round(max(picture.shape[:2]) / 200))
    cv2.drawContours(canvas, contours, -1, _OUTLINE, thick)
    return canvas


def draw_heat(picture: Array, response: Array) -> Array:
    """Lay a response over a grey picture: dark is 0, yellow-white 1; pale grey was not asked.

    The grey values are spread over the whole range, so that dark pictures are seen.

    Args:
        picture: (H, W, 3) uint8 RGB.
        response: (H, W) in 0..1, NaN where the query was not asked.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)[..., None]
    low, high = np.percentile(grey, (1, 99))
    grey = ((grey - low) / max(high - low, 1) * 255).clip(0, 255)
    asked = ~np.isnan(response)
    levels = np.rint(np.nan_to_num(response).clip(0, 1) * 255).astype(np.uint8)
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    blended = _SHADE * grey + (1 - _SHADE) * heat
    pale = 0.5 * grey + 100
    return np.rint(np.where(asked[..., None], blended, pale)).clip(0, 255).astype(np.uint8)


def _panel(panel: ResponsePanel, side: int) -> Array:
    height, width = panel.picture.shape[:2]
    if panel.response is None:
        response = np.full((height, width), np.nan, np.float32)
    else:
        response = cv2.resize(
            panel.response.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
        )
    return _cell(draw_heat(panel.picture, response), panel.caption, side)


def _cell(picture: Array, caption: str, side: int) -> Array:
    """Fit a picture into a square with a line above."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    canvas = np.full((side, side, 3), _WHITE, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=how)
    return with_caption(canvas, caption)


def _scale(side: int) -> Array:
    """Draw the bar that says which colour is which response."""
    bar = np.linspace(0, 1, 2 * side, dtype=np.float32)[None].repeat(12, axis=0)
    drawn = draw_heat(np.zeros((*bar.shape, 3), np.uint8), bar)
    return with_caption(drawn, 'response (sigmoid): 0 left, 1 right')


def _side_by_side(parts: Sequence[Array], gap: int) -> Array:
    return _below([part.transpose(1, 0, 2) for part in parts], gap).transpose(1, 0, 2)


def _below(parts: Sequence[Array], gap: int) -> Array:
    """Stack pictures with white between, narrower ones filled up."""
    width = max(part.shape[1] for part in parts)
    stacked: list[Array] = []
    for part in parts:
        if stacked:
            stacked.append(np.full((gap, width, 3), _WHITE, np.uint8))
        canvas = np.full((part.shape[0], width, 3), _WHITE, np.uint8)
        canvas[:, : part.shape[1]] = part
        stacked.append(canvas)
    return np.concatenate(stacked)
