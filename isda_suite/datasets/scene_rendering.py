"""Draw a scene: the picture and the visible mask of every object at a moment.

Outlines are unit polygons (widest radius 1, y downwards) given by the class; patterns are
functions of coordinates that move with what carries them, so the same code serves stills and
videos. A mask pixel belongs to the nearest object that covers at least half of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .scene import (
    Array,
    Clutter,
    Scene,
    SceneObject,
    SceneStatistics,
    Texture,
    draw_background,
    draw_clutter,
    draw_image_size,
    draw_object,
)

Polygons = list[Array]
_SUPERSAMPLING = 4
_MAX_TRIES = 200
_MIN_VISIBLE_PIXELS = 40


def _circle(radius: float, squeeze: float, points: int = 48) -> Array:
    turn = np.linspace(0, 2 * math.pi, points, endpoint=False)
    return np.stack([radius * np.cos(turn), radius * squeeze * np.sin(turn)], axis=1)


def _disk(squeeze: float, detail: float) -> Polygons:
    return [_circle(1.0, squeeze)]


def _box(squeeze: float, detail: float) -> Polygons:
    corner = np.array([1.0, squeeze]) / math.hypot(1.0, squeeze)
    return [corner * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])]


def _star(squeeze: float, detail: float) -> Polygons:
    turn = np.arange(10) * math.pi / 5
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.38 + 0.16 * detail)
    return [np.stack([radius * np.sin(turn), -radius * np.cos(turn)], axis=1)]


def _ring(squeeze: float, detail: float) -> Polygons:
    return [_circle(1.0, squeeze), _circle(0.45 + 0.2 * detail, squeeze)]


def _triangle(squeeze: float, detail: float) -> Polygons:
    turn = np.array([0.0, 2 / 3, 4 / 3]) * math.pi
    turn[1:] += np.array([1, -1]) * 0.25 * (detail - 0.5)
    return [np.stack([np.sin(turn), -np.cos(turn)], axis=1)]


#: Outline of every class: (squeeze, detail) -> polygons; the even-odd rule makes the holes.
OUTLINES: dict[str, Callable[[float, float], Polygons]] = {
    'disk': _disk,
    'box': _box,
    'star': _star,
    'ring': _ring,
    'triangle': _triangle,
}


def _noise_tile(seed: int, cells: int = 16) -> Array:
    grid = np.random.default_rng(seed).random((cells, cells)).astype(np.float32)
    return cv2.resize(np.tile(grid, (3, 3)), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)[
        cells * 8 : cells * 16, cells * 8 : cells * 16
    ]


def _noise(texture: Texture, u: Array, v: Array, cells_a_period: float) -> Array:
    tile = _noise_tile(texture.seed)
    scale = 8 * cells_a_period / texture.period
    rows = np.floor(v * scale).astype(int) % tile.shape[0]
    columns = np.floor(u * scale).astype(int) % tile.shape[1]
    return np.clip(tile[rows, columns], 0, 1)


def _pattern(texture: Texture, u: Array, v: Array) -> Array:
    """Return the share of the second colour, in 0..1, at the turned coordinates (u, v)."""
    wave_u = np.sin(2 * math.pi * u / texture.period)
    if texture.kind == 'plain':
        return np.zeros_like(u)
    if texture.kind == 'shaded':
        return 0.5 + 0.5 * np.tanh(u / (2.5 * texture.period))
    if texture.kind == 'stripes':
        return np.clip(0.5 + 2 * wave_u, 0, 1)
    if texture.kind == 'checks':
        return np.clip(0.5 + 3 * wave_u * np.sin(2 * math.pi * v / texture.period), 0, 1)
    return _noise(texture, u, v, cells_a_period=3.0 if texture.kind == 'speckle' else 0.8)


def paint(texture: Texture, x: Array, y: Array) -> Array:
    """Evaluate a texture.

    Args:
        texture: What to evaluate.
        x: (h, w) coordinates relative to the carrier, in pixels.
        y: The same, downwards.

    Returns:
        (h, w, 3) BGR in 0..1.
    """
    cos, sin = math.cos(texture.angle), math.sin(texture.angle)
    share = _pattern(texture, cos * x + sin * y, cos * y - sin * x)[..., None]
    first, second = (np.asarray(colour, dtype=np.float32) for colour in texture.colours)
    return (1 - share) * first + share * second


def coverage(item: SceneObject, size_hw: tuple[int, int], time: float = 0.0) -> Array:
    """Return how much of every pixel the object's outline covers.

    Args:
        item: The object.
        size_hw: Size of the canvas; the outline is cut at its border.
        time: The moment.

    Returns:
        (H, W) float32 in 0..1.
    """
    angle, (x, y) = item.angle_at(time), item.center_at(time)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygons = [
        (item.radius * polygon @ turn + (x, y)) * _SUPERSAMPLING * 16
        for polygon in OUTLINES[item.shape](item.squeeze, item.detail)
    ]
    large = np.zeros([side * _SUPERSAMPLING for side in size_hw], dtype=np.uint8)
    cv2.fillPoly(large, [np.round(polygon).astype(np.int32) for polygon in polygons], 255, shift=4)
    small = cv2.resize(large, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def full_area(item: SceneObject) -> float:
    """Return the area of the whole outline in pixels, inside and outside the image."""
    outer, *holes = (
        cv2.contourArea((item.radius * polygon).astype(np.float32))
        for polygon in OUTLINES[item.shape](item.squeeze, item.detail)
    )
    return float(outer - sum(holes))


def _draw_clutter(canvas: Array, mark: Clutter) -> None:
    x, y = (round(value) for value in mark.center_xy)
    width = max(1, round(mark.width))
    if mark.kind == 'blob':
        cv2.circle(canvas, (x, y), width, mark.colour, -1, cv2.LINE_AA)
    elif mark.kind == 'arc':
        start = math.degrees(mark.angle)
        axes = (round(mark.length / 3), round(mark.length / 4))
        cv2.ellipse(canvas, (x, y), axes, start, 0, 130, mark.colour, width, cv2.LINE_AA)
    else:
        end = (
            round(x + mark.length * math.cos(mark.angle)),
            round(y + mark.length * math.sin(mark.angle)),
        )
        cv2.line(canvas, (x, y), end, mark.colour, width, cv2.LINE_AA)


@dataclass(frozen=True)
class Rendered:
    """A drawn scene: N objects in the scene's order.

    Args:
        image: (H, W, 3) uint8, BGR.
        masks: (N, H, W) bool, the visible pixels of every object; no two overlap.
        inside: (N,) covered pixels inside the image, hidden or not.
        full: (N,) area of the whole outline.
    """

    image: Array
    masks: Array
    inside: Array
    full: Array


def visible_masks(coverages: list[Array], size_hw: tuple[int, int]) -> Array:
    """Give every pixel to the nearest object covering half of it: (N, H, W) bool."""
    owner = np.full(size_hw, -1)
    for index, share in enumerate(coverages):
        owner[share >= 0.5] = index
    return owner[None] == np.arange(len(coverages))[:, None, None]


def render(scene: Scene, time: float = 0.0) -> Rendered:
    """Draw a scene at a moment."""
    height, width = scene.size_hw
    y, x = np.mgrid[:height, :width].astype(np.float32)
    canvas = np.ascontiguousarray(
        paint(scene.background, x - width / 2, y - height / 2), dtype=np.float32
    )
    for mark in scene.clutter:
        _draw_clutter(canvas, mark)
    shares = [coverage(item, scene.size_hw, time) for item in scene.objects]
    for item, share in zip(scene.objects, shares, strict=True):
        _blend(canvas, item, share, time)
    # Uneven light and sensor noise, so that no area is exactly flat.
    rng = np.random.default_rng(scene.noise_seed)
    light = (
        1
        + rng.uniform(-0.12, 0.12) * (x / width - 0.5)
        + rng.uniform(-0.12, 0.12) * (y / height - 0.5)
    )
    frame_rng = np.random.default_rng([scene.noise_seed, round(time * 1000)])
    noise = frame_rng.normal(0, 0.018, canvas.shape).astype(np.float32)
    image = np.clip(canvas * light[..., None] + noise, 0, 1)
    return Rendered(
        image=np.round(image * 255).astype(np.uint8),
        masks=visible_masks(shares, scene.size_hw),
        inside=np.array([int((share >= 0.5).sum()) for share in shares]),
        full=np.array([full_area(item) for item in scene.objects]),
    )


def _blend(canvas: Array, item: SceneObject, share: Array, time: float) -> None:
    rows, columns = np.nonzero(share > 0)
    if not len(rows):
        return
    window = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    y, x = np.mgrid[window].astype(np.float32)
    angle, (cx, cy) = item.angle_at(time), item.center_at(time)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = x - cx, y - cy
    surface = paint(item.texture, cos * x + sin * y, cos * y - sin * x)
    # A slightly darker lower right side gives the flat outline some body.
    surface = surface * (1 - 0.12 * np.clip((x + y) / (1.4 * item.radius), -1, 1))[..., None]
    alpha = share[window][..., None]
    canvas[window] = (1 - alpha) * canvas[window] + alpha * surface


def random_scene(rng: np.random.Generator, stats: SceneStatistics | None = None) -> Scene:
    """Draw a scene in which every object can be seen well enough at time 0.

    An object that would leave itself or an earlier one with less than ``stats.min_visible`` of its
    outline, or with less than 40 pixels, is drawn again.

    Raises:
        ValueError: if the statistics leave no room for the least number of objects.
    """
    stats = stats or SceneStatistics()
    size_hw = draw_image_size(rng, stats)
    background = draw_background(rng)
    wanted = int(rng.integers(stats.num_objects[0], stats.num_objects[1] + 1))
    objects: list[SceneObject] = []
    shares: list[Array] = []
    for _ in range(_MAX_TRIES):
        if len(objects) == wanted:
            break
        item = draw_object(rng, stats, size_hw, background, objects)
        trial = [*shares, coverage(item, size_hw)]
        visible = visible_masks(trial, size_hw).sum(axis=(1, 2))
        full = np.array([full_area(one) for one in (*objects, item)])
        if (visible >= np.maximum(stats.min_visible * full, _MIN_VISIBLE_PIXELS)).all():
            objects.append(item)
            shares = trial
    if len(objects) < stats.num_objects[0]:
        raise ValueError(
            f'only {len(objects)} of at least {stats.num_objects[0]} objects found room in '
            f'{_MAX_TRIES} tries: lower num_objects, diameter or min_visible of SceneStatistics'
        )
    return Scene(
        size_hw=size_hw,
        background=background,
        clutter=draw_clutter(rng, stats, size_hw),
        objects=tuple(objects),
        noise_seed=int(rng.integers(2**31)),
    )
