"""Random scenes of textured objects: what is where, before anything is drawn.

A :class:`Scene` is pure data: a background, clutter, and objects in depth order, each with a class,
a pose and a motion. :func:`isda_suite.datasets.scene_rendering.render` turns one into a picture
and visible masks at any time; the writers of :mod:`isda_suite.datasets.sample` store them.

The statistics of the default :class:`SceneStatistics`. "Measured" is over the 240 + 60 images of
the default data set (tests/datasets/test_sample.py holds them to these ranges):

=============================  =======================  ==================
quantity                       drawn from               measured
=============================  =======================  ==================
image                          short side 192, long side 192..256 in steps of 16, 1 in 4 upright
objects an image               uniform 2..7             4.5 (mean)
size (widest diameter, px)     log-uniform 14..90       median 35
visible area (px)              follows from the size    median 456, 74 % below 32 x 32
class                          uniform, 5 classes       18..22 % each
texture                        uniform, 5 kinds         independent of class
colour                         any hue, two per object  independent of class
partly hidden by another       1 in 2 placed beside     22 % of instances
cut off by the border          1 in 5 placed there      26 % of instances
least visible part             0.4 of the whole shape   0.40
distractors an image           uniform 3..9             strokes, arcs, blobs
=============================  =======================  ==================
"""

import colorsys
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ('disk', 'box', 'star', 'ring', 'triangle')
TEXTURES = ('plain', 'shaded', 'stripes', 'checks', 'speckle')
BACKGROUNDS = ('shaded', 'stripes', 'checks', 'speckle', 'clouds')
CLUTTER = ('stroke', 'arc', 'blob')
Array = NDArray[Any]
Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Texture:
    """Two colours mixed by a pattern.

    Args:
        kind: Name of the pattern.
        colours: The two colours, BGR in 0..1.
        period: Length after which the pattern repeats, in pixels.
        angle: Direction of the pattern in radians, relative to what carries it.
        seed: Seed of the random patterns.
    """

    kind: str
    colours: tuple[Colour, Colour]
    period: float
    angle: float
    seed: int

    def mean_colour(self) -> Array:
        """Return the middle of both colours, (3,) BGR in 0..1."""
        return np.asarray(self.colours, dtype=float).mean(axis=0)


@dataclass(frozen=True)
class SceneObject:
    """One object: class, outline, surface, pose at time 0 and motion.

    Args:
        label: Index into the classes of the scene's statistics.
        shape: Name of the outline.
        texture: Surface; it moves and turns with the object.
        center_xy: Centre at time 0 in pixels.
        radius: Half of the widest diameter in pixels.
        squeeze: Height over width of the outline before rotation, in (0, 1].
        detail: Free parameter of the outline in 0..1, such as the width of a ring.
        angle: Rotation at time 0 in radians.
        velocity_xy: Pixels per unit of time.
        spin: Radians per unit of time.
    """

    label: int
    shape: str
    texture: Texture
    center_xy: Point
    radius: float
    squeeze: float
    detail: float
    angle: float
    velocity_xy: Point = (0.0, 0.0)
    spin: float = 0.0

    def center_at(self, time: float) -> Point:
        """Return the centre at ``time`` in pixels."""
        (x, y), (vx, vy) = self.center_xy, self.velocity_xy
        return x + vx * time, y + vy * time

    def angle_at(self, time: float) -> float:
        """Return the rotation at ``time`` in radians."""
        return self.angle + self.spin * time


@dataclass(frozen=True)
class Clutter:
    """A mark on the background that belongs to no class: an open stroke, an arc or a small blob."""

    kind: str
    colour: Colour
    center_xy: Point
    length: float
    width: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """A scene; ``objects`` are sorted from far to near."""

    size_hw: tuple[int, int]
    background: Texture
    clutter: tuple[Clutter, ...]
    objects: tuple[SceneObject, ...]
    noise_seed: int


@dataclass(frozen=True)
class SceneStatistics:
    """How scenes are drawn; the table at the head of the module describes the defaults.

    Args:
        classes: Names of the classes; each is an outline of ``scene_rendering.OUTLINES``.
        short_side: Shorter side of the image in pixels.
        long_sides: Choices for the longer side.
        upright_share: Share of images that are higher than wide.
        num_objects: Least and largest number of objects.
        diameter: Range of the widest diameter in pixels.
        beside_share: Share of objects placed so that they touch or hide an earlier one.
        border_share: Share of objects placed on the border.
        min_visible: Least part of an object's full outline that must be seen.
        min_contrast: Least distance of mean colours of object and background, in 0..sqrt(3).
        num_clutter: Least and largest number of distractors.
        speed: Largest speed in pixels per unit of time.
        spin: Largest turn in radians per unit of time.
    """

    classes: tuple[str, ...] = CLASSES
    short_side: int = 192
    long_sides: tuple[int, ...] = (192, 208, 224, 240, 256)
    upright_share: float = 0.25
    num_objects: tuple[int, int] = (2, 7)
    diameter: tuple[float, float] = (14.0, 90.0)
    beside_share: float = 0.5
    border_share: float = 0.2
    min_visible: float = 0.4
    min_contrast: float = 0.35
    num_clutter: tuple[int, int] = (3, 9)
    speed: float = 0.0
    spin: float = 0.0


def draw_image_size(rng: np.random.Generator, stats: SceneStatistics) -> tuple[int, int]:
    """Draw an image size as (h, w)."""
    long_side = int(rng.choice(stats.long_sides))
    if rng.random() < stats.upright_share:
        return long_side, stats.short_side
    return stats.short_side, long_side


def draw_colour(rng: np.random.Generator, saturation: Point, value: Point) -> Colour:
    """Draw a colour of any hue, BGR in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    )
    return blue, green, red


def _second_colour(rng: np.random.Generator, first: Colour, strength: float) -> Colour:
    shift = rng.normal(size=3)
    moved = np.asarray(first) + strength * shift / max(float(np.linalg.norm(shift)), 1e-6)
    blue, green, red = np.clip(moved, 0, 1).tolist()
    return blue, green, red


def draw_background(rng: np.random.Generator) -> Texture:
    """Draw a background: muted colours, a pattern with a long period."""
    first = draw_colour(rng, (0.0, 0.55), (0.15, 0.9))
    return Texture(
        kind=str(rng.choice(BACKGROUNDS)),
        colours=(first, _second_colour(rng, first, rng.uniform(0.08, 0.28))),
        period=float(rng.uniform(12, 90)),
        angle=float(rng.uniform(0, math.pi)),
        seed=int(rng.integers(2**31)),
    )


def draw_surface(
    rng: np.random.Generator, stats: SceneStatistics, background: Texture, radius: float
) -> Texture:
    """Draw an object's surface that stands out from the background by ``min_contrast``."""
    ground = background.mean_colour()
    while True:
        first = draw_colour(rng, (0.25, 1.0), (0.2, 1.0))
        surface = Texture(
            kind=str(rng.choice(TEXTURES)),
            colours=(first, _second_colour(rng, first, rng.uniform(0.15, 0.45))),
            period=float(rng.uniform(0.35, 0.9) * radius),
            angle=float(rng.uniform(0, math.pi)),
            seed=int(rng.integers(2**31)),
        )
        if np.linalg.norm(surface.mean_colour() - ground) >= stats.min_contrast:
            return surface


def _draw_center(
    rng: np.random.Generator,
    stats: SceneStatistics,
    size_hw: tuple[int, int],
    radius: float,
    earlier: list[SceneObject],
) -> Point:
    height, width = size_hw
    kind = rng.random()
    if kind < stats.border_share:
        along, inside = rng.random(), rng.uniform(-0.15, 0.7) * radius
        edge = int(rng.integers(4))
        return (
            (along * width, inside),
            (along * width, height - inside),
            (inside, along * height),
            (width - inside, along * height),
        )[edge]
    if earlier and kind < stats.border_share + stats.beside_share:
        other = earlier[int(rng.integers(len(earlier)))]
        distance = rng.uniform(0.5, 1.15) * (radius + other.radius)
        turn = rng.uniform(0, 2 * math.pi)
        x = other.center_xy[0] + distance * math.cos(turn)
        y = other.center_xy[1] + distance * math.sin(turn)
        return float(x), float(y)
    margin_x, margin_y = min(radius, width / 2), min(radius, height / 2)
    return (
        float(rng.uniform(margin_x, width - margin_x)),
        float(rng.uniform(margin_y, height - margin_y)),
    )


def draw_object(
    rng: np.random.Generator,
    stats: SceneStatistics,
    size_hw: tuple[int, int],
    background: Texture,
    earlier: list[SceneObject],
) -> SceneObject:
    """Draw one object; whether it may stay is for the caller to check."""
    label = int(rng.integers(len(stats.classes)))
    low, high = stats.diameter
    radius = 0.5 * float(np.exp(rng.uniform(math.log(low), math.log(high))))
    direction = rng.uniform(0, 2 * math.pi)
    speed = rng.uniform(0, stats.speed)
    return SceneObject(
        label=label,
        shape=stats.classes[label],
        texture=draw_surface(rng, stats, background, radius),
        center_xy=_draw_center(rng, stats, size_hw, radius, earlier),
        radius=radius,
        squeeze=float(rng.uniform(0.7, 1.0)),
        detail=float(rng.random()),
        angle=float(rng.uniform(0, 2 * math.pi)),
        velocity_xy=(float(speed * math.cos(direction)), float(speed * math.sin(direction))),
        spin=float(rng.uniform(-stats.spin, stats.spin)),
    )


def draw_clutter(
    rng: np.random.Generator, stats: SceneStatistics, size_hw: tuple[int, int]
) -> tuple[Clutter, ...]:
    """Draw distractors: coloured like objects, outlined like none of them."""
    low, high = stats.num_clutter
    return tuple(
        Clutter(
            kind=str(rng.choice(CLUTTER)),
            colour=draw_colour(rng, (0.2, 1.0), (0.2, 1.0)),
            center_xy=(float(rng.uniform(0, size_hw[1])), float(rng.uniform(0, size_hw[0]))),
            length=float(rng.uniform(10, 60)),
            width=float(rng.uniform(1, 4)),
            angle=float(rng.uniform(0, 2 * math.pi)),
        )
        for _ in range(int(rng.integers(low, high + 1)))
    )
