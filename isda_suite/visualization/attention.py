"""Draw where queries look: sampled points with their weights, or a map, over an image."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import Colour, class_colours
from .pictures import enlarged

Array = NDArray[Any]
#: Points are drawn over pictures of at least this side.
_MIN_SIDE = 640
_INSTANCE = (255, 255, 255)


def draw_points(
    image: Array,
    points_xy: Array,
    weights: Array,
    reference_xy: Array | None = None,
    mask: Array | None = None,
    colours: Sequence[Colour] | None = None,
    largest: float | None = None,
) -> Array:
    """Draw sampling points, larger and clearer the more they weigh, each head in its colour.

    Axes: M heads, N points of a head.

    Args:
        image: (H, W, 3) uint8 RGB.
        points_xy: (M, N, 2) in pixels; those outside are not seen.
        weights: (M, N), 0 or more.
        reference_xy: (R, 2) in pixels, drawn as crosses.
        mask: (H, W) bool, whose outline is drawn.
        colours: One for each head.
        largest: The weight that is drawn largest; None takes the largest that is there.

    Returns:
        RGB picture; small images are enlarged.
    """
    picture, factor = enlarged(np.ascontiguousarray(image), _MIN_SIDE)
    picture = picture.copy()
    zoom = max(1, round(max(picture.shape[:2]) / 900))
    if mask is not None:
        _outline(picture, mask, factor, zoom)
    heads = np.repeat(np.arange(len(weights)), weights.shape[1])
    colours = class_colours(len(weights)) if colours is None else colours
    flat, where = weights.reshape(-1), points_xy.reshape(-1, 2)
    top = largest or max(float(flat.max(initial=0.0)), 1e-12)
    for index in np.argsort(flat, kind='stable').tolist():
        share = min(float(flat[index]) / top, 1.0)
        radius = max(1, round((1.5 + 6.5 * share**0.5) * zoom))
        centre = (where[index] + 0.5) * factor - 0.5
        _blend_disc(picture, centre, radius, colours[heads[index]], 0.15 + 0.85 * share)
    for x, y in () if reference_xy is None else reference_xy.tolist():
        place = round((x + 0.5) * factor - 0.5), round((y + 0.5) * factor - 0.5)
        for colour, width in (((0, 0, 0), 4 * zoom), ((255, 255, 255), 2 * zoom)):
            cv2.drawMarker(picture, place, colour, cv2.MARKER_TILTED_CROSS, 16 * zoom, width)
    return picture


def _outline(picture: Array, mask: Array, factor: int, zoom: int) -> None:
    large = mask.astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3 * zoom, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, _INSTANCE, zoom, cv2.LINE_AA)


def _blend_disc(picture: Array, centre: Array, radius: int, colour: Colour, alpha: float) -> None:
    """Draw a disc of some opacity, without touching more of the picture than it covers."""
    x, y = (round(float(value)) for value in centre)
    left, top = max(x - radius, 0), max(y - radius, 0)
    part = picture[top : max(y + radius + 1, 0), left : max(x + radius + 1, 0)]
    if part.size:
        drawn = part.copy()
        cv2.circle(drawn, (x - left, y - top), radius, colour, -1, cv2.LINE_AA)
        part[:] = cv2.addWeighted(drawn, alpha, np.ascontiguousarray(part), 1 - alpha, 0)


def draw_weights(image: Array, weights: Array, largest: float, mask: Array | None = None) -> Array:
    """Draw a map of weights over an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        weights: (h, w), 0 or more, over the whole image.
        largest: The weight that is drawn brightest.
        mask: (H, W) bool, whose outline is drawn.

    Returns:
        RGB picture; small images are enlarged.
    """
    picture, factor = enlarged(np.ascontiguousarray(image), _MIN_SIDE)
    size = picture.shape[1::-1]
    share = np.clip(weights / max(largest, 1e-12), 0, 1).astype(np.float32) ** 0.5
    share = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_LINEAR))
    heat = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (0.25 + 0.5 * share)[..., None]
    picture = ((1 - alpha) * picture + alpha * heat).astype(np.uint8)
    if mask is not None:
        _outline(picture, mask, factor, max(1, round(max(picture.shape[:2]) / 900)))
    return picture
