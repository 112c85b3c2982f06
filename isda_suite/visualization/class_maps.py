"""Draw class maps of semantic segmentation over their images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colours import class_colours
from .instances import MIN_SIDE
from .pictures import enlarged, with_caption, with_legend

Array = NDArray[Any]


def draw_class_map(
    image: Array,
    labels: Array,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    caption: str = '',
    alpha: float = 0.5,
) -> Array:
    """Draw the class of every pixel over an image, with a legend of the classes that occur.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) class ids; pixels with any other value (the ignored ones) stay as they are.
        classes: Names of the ids.
        palette: RGB colour of each id; ``None`` takes the colours of instances.
        caption: Line of text above the picture.
        alpha: Opacity of the colours.

    Returns:
        RGB picture; small images are enlarged.
    """
    colours = [(int(r), int(g), int(b)) for r, g, b in palette or class_colours(len(classes))]
    picture, factor = enlarged(np.ascontiguousarray(image), MIN_SIDE)
    picture = picture.copy()
    labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    legend = []
    for label, (name, colour) in enumerate(zip(classes, colours, strict=False)):
        pixels = labels == label
        if pixels.any():
            picture[pixels] = (1 - alpha) * picture[pixels] + alpha * np.array(colour)
            legend.append((name, colour))
    if legend:
        picture = with_legend(picture, legend)
    return with_caption(picture, caption) if caption else picture
