"""Put pictures together and store them: captions, rows, contact sheets. All images are RGB."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import Colour

Array = NDArray[Any]
#: Images with a shorter side are enlarged before drawing, so that labels fit.
MIN_SIDE = 384
_LONGEST_ENLARGED = 4096
_WHITE = 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BAR = 24
#: Around patches of a legend: a class may be white, as the paper is.
_OUTLINE = (96, 96, 96)


def with_caption(image: Array, text: str, zoom: int = 1) -> Array:
    """Return the image under a bar with a line of text.

    Args:
        image: (H, W, 3) uint8.
        text: Caption; shrunk when it is wider than the image.
        zoom: How many times larger than usual the writing is.
    """
    width = image.shape[1]
    bar = np.full((_BAR * zoom, width, 3), _WHITE, dtype=np.uint8)
    (needed, _), _ = cv2.getTextSize(text, _FONT, 0.5 * zoom, zoom)
    scale = 0.5 * zoom * min(1.0, (width - 8) / max(needed, 1))
    cv2.putText(bar, text, (4, 16 * zoom), _FONT, scale, (0, 0, 0), zoom, cv2.LINE_AA)
    return np.concatenate([bar, image])


def with_legend(image: Array, entries: Sequence[tuple[str, Colour]], zoom: int = 1) -> Array:
    """Return the image above a row of colour patches with names, wrapped where needed.

    Args:
        image: (H, W, 3) uint8.
        entries: Names and colours.
        zoom: How many times larger than usual the writing is.
    """
    width = image.shape[1]
    rows: list[Array] = []
    x = width
    for name, colour in entries:
        needed = 34 * zoom + cv2.getTextSize(name, _FONT, 0.45 * zoom, zoom)[0][0]
        if x + needed > width:
            rows.append(np.full((_BAR * zoom, width, 3), _WHITE, dtype=np.uint8))
            x = 4
        corners = (x, 6 * zoom), (x + 14 * zoom, 18 * zoom)
        cv2.rectangle(rows[-1], *corners, colour, -1)
        cv2.rectangle(rows[-1], *corners, _OUTLINE, 1)
        place = (x + 20 * zoom, 17 * zoom)
        cv2.putText(rows[-1], name, place, _FONT, 0.45 * zoom, (0, 0, 0), zoom, cv2.LINE_AA)
        x += needed
    return np.concatenate([image, *rows])


def beside(images: Sequence[Array], gap: int = 6) -> Array:
    """Return images in a row on white; lower ones are filled up below."""
    height = max(image.shape[0] for image in images)
    parts: list[Array] = []
    for image in images:
        if parts:
            parts.append(np.full((height, gap, 3), _WHITE, dtype=np.uint8))
        parts.append(_filled(image, height, image.shape[1]))
    return np.concatenate(parts, axis=1)


def contact_sheet(images: Sequence[Array], columns: int = 4, cell_width: int = 480) -> Array:
    """Return small versions of many pictures on one sheet.

    Args:
        images: (H, W, 3) uint8 each, any sizes.
        columns: Pictures a row.
        cell_width: Width of a picture on the sheet.

    Raises:
        ValueError: if there is no picture.
    """
    if not images:
        raise ValueError('a contact sheet needs at least one picture')
    columns = min(columns, len(images))
    cells = []
    for image in images:
        height = max(1, round(image.shape[0] * cell_width / image.shape[1]))
        cells.append(cv2.resize(image, (cell_width, height), interpolation=cv2.INTER_AREA))
    rows = []
    for start in range(0, len(cells), columns):
        row = beside(cells[start : start + columns])
        full_width = columns * cell_width + (columns - 1) * 6
        rows.append(_filled(row, row.shape[0] + 6, full_width))
    return np.concatenate(rows)


def _filled(image: Array, height: int, width: int) -> Array:
    canvas = np.full((height, width, 3), _WHITE, dtype=np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def enlarged(image: Array, min_side: int) -> tuple[Array, int]:
    """Enlarge a small image by a whole number so that labels fit; return it and the factor.

    A strip, which is short one way and long the other, grows to 4096 pixels at most.
    """
    shortest, longest = (max(1, side) for side in sorted(image.shape[:2]))
    factor = max(1, min(-(-min_side // shortest), _LONGEST_ENLARGED // longest))
    if factor == 1:
        return image, 1
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), factor


def save_picture(path: str | Path, image: Array) -> Path:
    """Store an RGB picture; the file is whole or absent.

    Args:
        path: File name; the suffix decides the format.
        image: (H, W, 3) uint8, RGB.

    Returns:
        The path.

    Raises:
        ValueError: if OpenCV does not know the suffix.
    """
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix or '.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f'{path}: no picture format for the suffix {path.suffix!r}') from error
    if not done:
        raise ValueError(f'{path}: OpenCV could not write this picture as {path.suffix}')
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.tmp-{os.getpid()}')
    try:
        part.write_bytes(data.tobytes())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
