"""Draw class maps: the class of every pixel, in its colour, over the image."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import Colour, class_colours
from .pictures import MIN_SIDE, beside, enlarged, with_caption
from .pictures import with_legend as above_legend

Array = NDArray[Any]
Palette = Sequence[Sequence[int]] | None
#: Longer panels of a row are made smaller: three of 5000 x 5000 pixels would be 225 MB.
_MAX_PANEL = 1280


def draw_class_map(
    image: Array,
    labels: Array,
    classes: Sequence[str],
    palette: Palette = None,
    caption: str = '',
    alpha: float = 0.5,
    with_legend: bool = True,
) -> Array:
    """Draw the class of every pixel over an image, with a legend of the classes that occur.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) class ids; pixels with any other value (the ignored ones) stay as they are.
        classes: Names of the ids.
        palette: RGB colour of each id; ``None`` takes the colours of instances.
        caption: Line of text above the picture.
        alpha: Opacity of the colours.
        with_legend: Whether the names of the classes are written below.

    Returns:
        RGB picture; small images are enlarged.
    """
    colours = _colours(classes, palette)
    picture, factor = enlarged(np.ascontiguousarray(image), MIN_SIDE)
    labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    legend = _legend([labels], classes, colours) if with_legend else []
    picture = _tinted(picture, labels, colours, alpha)
    if legend:
        picture = above_legend(picture, legend)
    return with_caption(picture, caption) if caption else picture


def draw_class_maps_side_by_side(
    image: Array,
    gt: Array | None,
    pred: Array,
    classes: Sequence[str],
    palette: Palette = None,
    title: str = '',
    alpha: float = 0.6,
) -> Array:
    """Draw the image, the labels and the prediction in a row, with one legend.

    Args:
        image: (H, W, 3) uint8, RGB.
        gt: (H, W) labelled class ids, or ``None`` to leave that panel out; pixels with any other
            value (the ignored ones) stay as they are.
        pred: (H, W) predicted class ids.
        classes: Names of the ids.
        palette: RGB colour of each id; ``None`` takes the colours of instances.
        title: Put above the image, such as the file name.
        alpha: Opacity of the colours.

    Returns:
        RGB picture; small images are enlarged, and large ones reduced.
    """
    colours = _colours(classes, palette)
    captions = [f'{title} ({image.shape[1]} x {image.shape[0]})'.strip()]
    captions += [] if gt is None else ['ground truth']
    captions += [f'prediction{_agreement(gt, pred, len(classes))}']
    image = _fitted(np.ascontiguousarray(image))
    maps = [_resized(labels, image) for labels in (gt, pred) if labels is not None]
    panels = [image, *(_tinted(image, labels, colours, alpha) for labels in maps)]
    zoom = max(1, round(max(image.shape[:2]) / 640))
    row = beside([with_caption(*one, zoom) for one in zip(panels, captions, strict=True)])
    return above_legend(row, _legend(maps, classes, colours), zoom)


def _fitted(image: Array) -> Array:
    longest = max(image.shape[:2])
    if longest <= _MAX_PANEL:
        return enlarged(image, MIN_SIDE)[0]
    size = [max(1, round(side * _MAX_PANEL / longest)) for side in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _resized(labels: Array, image: Array) -> Array:
    size = image.shape[1::-1]
    return np.asarray(cv2.resize(labels.astype(np.int16), size, interpolation=cv2.INTER_NEAREST))


def _agreement(gt: Array | None, pred: Array, num_classes: int) -> str:
    if gt is None or gt.shape != pred.shape or not (labelled := gt < num_classes).any():
        return ''
    return f': {float((gt == pred)[labelled].mean()):.1%} of labelled pixels right'


def _colours(classes: Sequence[str], palette: Palette) -> list[Colour]:
    return [(int(r), int(g), int(b)) for r, g, b in palette or class_colours(len(classes))]


def _legend(
    maps: Sequence[Array], classes: Sequence[str], colours: Sequence[Colour]
) -> list[tuple[str, Colour]]:
    """Return the names and colours of the classes that occur in any of the maps."""
    present = {int(label) for labels in maps for label in np.unique(labels)}
    known = enumerate(zip(classes, colours, strict=False))
    return [entry for label, entry in known if label in present]


def _tinted(image: Array, labels: Array, colours: Sequence[Colour], alpha: float) -> Array:
    picture = image.copy()
    for label, colour in enumerate(colours):
        pixels = labels == label
        if pixels.any():
            picture[pixels] = (1 - alpha) * picture[pixels] + alpha * np.array(colour)
    return picture
