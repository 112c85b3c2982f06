"""Colours of classes and tracks: the same one, the same colour, in every picture."""

import colorsys

Colour = tuple[int, int, int]
# Steps of the golden angle never repeat and keep neighbours apart.
_GOLDEN_STEP = 0.6180339887498949


def colour(index: int) -> Colour:
    """Return the RGB colour of a class or a track."""
    hue = (0.02 + index * _GOLDEN_STEP) % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (0.95, 0.75))[index // 12 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def class_colours(num_classes: int) -> list[Colour]:
    """Return one RGB colour a class; colour k does not depend on ``num_classes``."""
    return [colour(label) for label in range(num_classes)]
