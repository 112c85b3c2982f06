"""Pictures of boxes on their way from noise to result: a strip and an animation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import Colour, class_colours
from .pictures import enlarged

Array = NDArray[Any]
_WEAK: Colour = (150, 150, 150)
_HALO = (0, 0, 0)


@dataclass
class BoxFrame:
    """The boxes of one moment.

    Attributes:
        caption: What moment it is.
        boxes: (N, 4) xyxy in pixels of the image.
        scores: (N,) best class score, 0..1; ``None`` for boxes that nothing is known of.
        labels: (N,) best class; ``None`` as ``scores``.
        in_strip: Whether the strip shows the moment too, or only the animation.
    """

    caption: str
    boxes: Array
    scores: Array | None = None
    labels: Array | None = None
    in_strip: bool = True


def draw_boxes(
    image: Array, frame: BoxFrame, num_classes: int, score_thr: float, min_side: int = 384
) -> Array:
    """Draw the boxes of a moment: those with a good score in the colour of their class.

    Args:
        image: (H, W, 3) uint8 RGB; small ones are enlarged.
        frame: The moment.
        num_classes: Number of classes, for the colours.
        score_thr: Boxes with a lower score, and those without one, are thin and grey.
        min_side: Length that the shorter side is enlarged to at least.

    Returns:
        The picture, RGB.
    """
    canvas, factor = enlarged(np.ascontiguousarray(image), min_side)
    canvas = canvas.copy()
    height, width = canvas.shape[:2]
    corners = np.clip(np.nan_to_num(frame.boxes) * factor, -10, [width + 10, height + 10] * 2)
    corners = corners.round().astype(int).tolist()
    scores = np.zeros(len(corners)) if frame.scores is None else frame.scores
    colours = class_colours(num_classes)
    # The best ones last, on top.
    for index in np.argsort(scores, kind='stable').tolist():
        x1, y1, x2, y2 = corners[index]
        if frame.labels is None or scores[index] < score_thr:
            cv2.rectangle(canvas, (x1, y1), (x2, y2), _WEAK, 1)
            continue
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _HALO, 4)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colours[int(frame.labels[index])], 2)
    return canvas


def save_animation(
    path: str | Path, pictures: Sequence[Array], seconds: float = 1.0, last: float = 3.0
) -> Path:
    """Store pictures as an endless GIF; the file is whole or absent.

    Args:
        path: File name, ending with ``.gif``.
        pictures: (H, W, 3) uint8 RGB, all of one size.
        seconds: How long each of them is shown.
        last: How long the last one is shown.

    Returns:
        The path.

    Raises:
        ValueError: if the name has another ending or there is no picture.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() != '.gif' or not pictures:
        raise ValueError(f'{path}: an animation is a .gif of at least one picture')
    frames = [Image.fromarray(picture).quantize(256) for picture in pictures]
    durations = [int(1000 * seconds)] * (len(frames) - 1) + [int(1000 * last)]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.tmp-{os.getpid()}')
    try:
        frames[0].save(
            part,
            format='GIF',
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
