"""Bring a picture to the size of the network, as the test pipeline does."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Size = tuple[int, int]


def network_size(size_hw: Size, resize: Mapping[str, Any]) -> Size:
    """Compute height and width of the network's input without padding.

    Args:
        size_hw: Of the picture.
        resize: ``resize`` of the description: ``how`` is ``none``, ``exact``, ``keep_ratio``
            (mmcv's rule) or ``short_side`` (DETR's), ``scale`` a number or (width, height).
    """
    height, width = size_hw
    if resize['how'] == 'none':
        return size_hw
    if resize['how'] == 'exact':
        return int(resize['scale'][1]), int(resize['scale'][0])
    if resize['how'] == 'keep_ratio':
        long, short = max(resize['scale']), min(resize['scale'])
        factor = min(long / max(height, width), short / min(height, width))
        return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)
    scale = resize['scale']
    short, limit = (scale, None) if isinstance(scale, int) else (min(scale), max(scale))
    return short_side_size(size_hw, short, limit)


def short_side_size(size_hw: Size, short: int, limit: int | None) -> Size:
    """Compute the size as ``isda_suite.ResizeShortSide`` does, which cannot be had without PyTorch.

    Args:
        size_hw: Of the picture.
        short: Length of the shorter side.
        limit: Of the longer side, or ``None``.
    """
    height, width = size_hw
    low, high = min(size_hw), max(size_hw)
    if limit is not None and high / low * short > limit:
        short = round(limit * low / high)
    long = int(short * high / low)
    return (long, short) if width < height else (short, long)


def padded_size(size_hw: Size, description: Mapping[str, Any]) -> Size:
    """Round up to what a file of free sides takes, where it knows padding from image."""
    if 'sizes' not in description['inputs']:
        return size_hw
    step = max(description['pad_divisor'], description['side_multiple'])
    least = description.get('least_side', 0)
    height, width = (-(-max(side, least) // step) * step for side in size_hw)
    return height, width


def resized(image: Array, size_hw: Size, resize: Mapping[str, Any]) -> Array:
    """Resize a picture (H, W, 3) uint8 bilinearly, by the library that the pipeline uses."""
    if image.shape[:2] == size_hw:
        return image
    if resize.get('by') == 'pillow':
        from PIL import Image

        picture = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BILINEAR)
        return np.asarray(picture)
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR))
