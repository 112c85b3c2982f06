"""Draw the tubes of tracked instances on the frames of a video, a frame at a time.

An image is a video of one frame, whose instances have no tracks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import Colour, colour
from .pictures import MIN_SIDE, enlarged

Array = NDArray[Any]
Mask = Array | dict[str, Any] | None
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive
_FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Writing and lines grow with the picture: this long a side has them at their usual size.
_USUAL_SIDE = 960


class TubeSlice(NamedTuple):
    """A tracked instance in one frame.

    Attributes:
        track_id: Gives its colour; ``None``, of an image, leaves that to the class.
        label: Class index.
        score: 0..1; ``None`` is not written.
        mask: (H, W) bool or 0/1, or COCO RLE; ``None`` where the instance is not in the frame.
    """

    track_id: int | None
    label: int
    score: float | None
    mask: Mask

    @property
    def colour(self) -> Colour:
        """RGB colour of the track, or of the class."""
        return colour(self.label if self.track_id is None else self.track_id)


def draw_tubes(
    image: Array,
    slices: Sequence[TubeSlice],
    classes: Sequence[str] | None = None,
    score_thr: float = 0.0,
    alpha: float = 0.5,
    with_boxes: bool = False,
    with_labels: bool = True,
) -> Array:
    """Draw tracked instances over a frame, each in the colour of its track.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        slices: What is in the frame; larger instances are drawn first.
        classes: Names of the labels; a label without a name is written as a number.
        score_thr: Slices with a lower score are left out.
        alpha: Opacity of the masks.
        with_boxes: Whether the boxes of the masks are drawn.
        with_labels: Whether classes and scores are written.

    Returns:
        (H', W', 3) uint8 RGB picture; small frames are enlarged by a whole number.
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    picture, factor = enlarged(np.ascontiguousarray(image), MIN_SIDE)
    if factor == 1:
        picture = picture.copy()
    zoom = max(1, round(max(picture.shape[:2]) / _USUAL_SIDE))
    drawn = []
    for piece in slices:
        if piece.score is None or piece.score >= score_thr:
            crop = _crop(piece.mask, image.shape[:2])
            if crop is not None:
                drawn.append((piece, crop))
    drawn.sort(key=lambda one: -int(one[1][1].sum()))
    for piece, (corner, mask) in drawn:
        _paint(picture, corner, mask, factor, piece.colour, alpha, zoom)
    taken: list[Rectangle] = []
    for piece, (corner, mask) in drawn:
        place = corner[1] * factor, corner[0] * factor
        if with_boxes:
            end = place[0] + mask.shape[1] * factor - 1, place[1] + mask.shape[0] * factor - 1
            cv2.rectangle(picture, place, end, piece.colour, 2 * zoom)
        if with_labels:
            text = _text(piece, classes)
            taken.append(_write(picture, place, text, piece.colour, zoom, taken))
    return picture


def _crop(mask: Mask, size_hw: Sequence[int]) -> tuple[tuple[int, int], Array] | None:
    """Cut a mask to its box: top and left, and the pixels; ``None`` if none is set."""
    if mask is None:
        return None
    if isinstance(mask, dict):
        from pycocotools import mask as coco_mask

        mask = coco_mask.decode(mask)
    pixels = np.asarray(mask).astype(bool)
    if pixels.shape != tuple(size_hw):
        raise ValueError(f'a mask of {pixels.shape} for a frame of {tuple(size_hw)}')
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not rows.size:
        return None
    top, left = int(rows[0]), int(columns[0])
    return (top, left), pixels[top : rows[-1] + 1, left : columns[-1] + 1]


def _paint(
    picture: Array,
    corner: tuple[int, int],
    mask: Array,
    factor: int,
    shade: Colour,
    alpha: float,
    zoom: int,
) -> None:
    """Tint the pixels of a mask, and draw its contour."""
    mask = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    top, left = corner[0] * factor, corner[1] * factor
    region = picture[top : top + mask.shape[0], left : left + mask.shape[1]]
    region[mask] = (1 - alpha) * region[mask] + alpha * np.array(shade)
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(left, top)
    )
    cv2.drawContours(picture, contours, -1, shade, 2 * zoom, cv2.LINE_AA)


def _text(piece: TubeSlice, classes: Sequence[str] | None) -> str:
    known = classes is not None and 0 <= piece.label < len(classes)
    name = classes[piece.label] if classes is not None and known else f'class {piece.label}'
    score = '' if piece.score is None else f' {piece.score:.2f}'
    number = '' if piece.track_id is None else f'{piece.track_id} '
    return f'{number}{name}{score}'


def _write(
    picture: Array,
    place_xy: tuple[int, int],
    text: str,
    shade: Colour,
    zoom: int,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Write on a patch of the track's colour, inside the picture and below others it would hide."""
    (width, height), below = cv2.getTextSize(text, _FONT, 0.45 * zoom, zoom)
    margin = 2 * zoom
    width, height = width + 2 * margin, height + below + 2 * margin
    left = max(0, min(place_xy[0], picture.shape[1] - width))
    top = max(0, min(place_xy[1], picture.shape[0] - height))
    for x, y, right, bottom in sorted(taken, key=lambda one: one[1]):
        beside = left >= right or left + width <= x or top >= bottom or top + height <= y
        if not beside and bottom + height <= picture.shape[0]:
            top = bottom
    found = left, top, left + width, top + height
    cv2.rectangle(picture, found[:2], (found[2] - 1, found[3] - 1), shade, -1)
    bright = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] > 128
    ink = (0, 0, 0) if bright else (255, 255, 255)
    baseline = (left + margin, top + height - margin - below)
    cv2.putText(picture, text, baseline, _FONT, 0.45 * zoom, ink, zoom, cv2.LINE_AA)
    return found
