"""Polygons with holes from masks, along the edges of the pixels, so that no pixel is lost."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Point = tuple[int, int]
#: The outer ring and those of the holes, (n, 2) each as (x, y); the last point is the first.
Polygon = list[Array]


class _Edge(NamedTuple):
    """A straight piece of an outline, from corner to corner, with the mask to its right.

    Attributes:
        end: Where it ends.
        sign: +1 in the direction of x or y, -1 against it.
        pixel: Row and column of a pixel of the mask beside it.
    """

    end: Point
    sign: int
    pixel: Point


#: By the point where they start; two where pixels touch with their corners only.
_Edges = dict[Point, list[_Edge]]


def polygons_of(mask: Array) -> list[Polygon]:
    """Turn a mask into polygons, one for each part whose pixels share edges.

    Their area is that of the mask, and no ring meets itself: where pixels touch with their corners
    only, rings touch in a point. So they are valid by the rules of OGC's simple features.

    Args:
        mask: (H, W) bool or 0/1.

    Returns:
        Polygons in pixels: pixel (row, column) is the square from (x, y) = (column, row) to
        (column + 1, row + 1). Taken as if y pointed up, outer rings run counter-clockwise, holes
        clockwise.
    """
    inside = np.asarray(mask).astype(np.uint8)
    count, parts = cv2.connectedComponents(inside, connectivity=4)
    outer: list[Polygon] = [[] for _ in range(count - 1)]
    holes: list[Polygon] = [[] for _ in range(count - 1)]
    for points, pixel in _outlines(_edges(inside.astype(bool))):
        part = int(parts[pixel]) - 1
        for ring in _simple_rings(points):
            (outer if _signed_area(ring) > 0 else holes)[part].append(ring)
    return [[*first, *others] for first, others in zip(outer, holes, strict=True)]


def _edges(inside: Array) -> tuple[_Edges, _Edges]:
    """Find the edges of a mask: those along x, and those along y."""
    padded = np.pad(inside, 1)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    left, right = padded[1:-1, :-1], padded[1:-1, 1:]
    along_x: _Edges = {}
    for row, first, last in _runs(below & ~above):
        edge = _Edge((last, row), 1, (row, first))
        along_x.setdefault((first, row), []).append(edge)
    for row, first, last in _runs(above & ~below):
        edge = _Edge((first, row), -1, (row - 1, first))
        along_x.setdefault((last, row), []).append(edge)
    along_y: _Edges = {}
    for column, first, last in _runs((left & ~right).T):
        edge = _Edge((column, last), 1, (first, column - 1))
        along_y.setdefault((column, first), []).append(edge)
    for column, first, last in _runs((right & ~left).T):
        edge = _Edge((column, first), -1, (first, column))
        along_y.setdefault((column, last), []).append(edge)
    return along_x, along_y


def _runs(edges: Array) -> list[tuple[int, int, int]]:
    """Return line, start and stop of all runs of True along the lines of an array."""
    steps = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    lines, starts = np.nonzero(steps == 1)
    _, stops = np.nonzero(steps == -1)
    return list(zip(lines.tolist(), starts.tolist(), stops.tolist(), strict=True))


def _outlines(edges: tuple[_Edges, _Edges]) -> list[tuple[list[Point], Point]]:
    """Follow all edges; return the corners of each closed line, and a pixel to its right."""
    along_x, along_y = edges
    found = []
    while along_x:
        start, edge = _take(along_x, next(iter(along_x)), None)
        points, pixel = [start], edge.pixel
        while True:
            points.append(edge.end)
            # To the right, so that a line stays with the pixels it began with.
            _, edge = _take(along_y, edge.end, edge.sign)
            if edge.end == start:
                break
            points.append(edge.end)
            _, edge = _take(along_x, edge.end, -edge.sign)
        found.append((points, pixel))
    return found


def _take(edges: _Edges, start: Point, sign: int | None) -> tuple[Point, _Edge]:
    """Remove the edge that starts at a point, of two that with this sign."""
    choices = edges[start]
    index = 0
    if len(choices) == 2 and sign is not None and choices[1].sign == sign:
        index = 1
    edge = choices.pop(index)
    if not choices:
        del edges[start]
    return start, edge


def _simple_rings(points: list[Point]) -> list[Array]:
    """Split a closed line where it passes a point twice; close the rings."""
    rings: list[Array] = []
    path: list[Point] = []
    places: dict[Point, int] = {}
    for point in [*points, points[0]]:
        if point in places:
            begin = places[point]
            rings.append(np.array([*path[begin:], point]))
            for passed in path[begin + 1 :]:
                del places[passed]
            del path[begin + 1 :]
        else:
            places[point] = len(path)
            path.append(point)
    return rings


def _signed_area(ring: Array) -> float:
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2
