"""Read labels of CVAT: the XML that it exports as "CVAT for images 1.1"."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.datasets.errors import DataError

from .readers import LabelFile, LabelledObject, Size, box_of, explained, parse_xml, union

_WITHOUT_AREA = {'polyline', 'points', 'cuboid', 'skeleton', 'tag'}
_ELLIPSE_POINTS = 64


def read_cvat(file: Path) -> Iterator[LabelFile]:
    """Read boxes, polygons, ellipses and masks; shapes with a ``group_id`` are one object.

    Args:
        file: ``annotations.xml``.

    Raises:
        DataError: if it is another file, or holds tracks of a video.
    """
    root = parse_xml(file)
    if root.tag != 'annotations':
        raise DataError(f'{file}: expected <annotations>, found <{root.tag}>')
    if root.find('track') is not None:
        raise DataError(
            f'{file} holds tracks of a video: export the task as "CVAT for images 1.1", which '
            'writes every frame as an image'
        )
    images = root.findall('image')
    if not images:
        raise DataError(f'{file} holds no <image>')
    for number, image in enumerate(images, 1):
        name = image.get('name')
        if not name:
            raise DataError(f'{file}, image {number}: it has no name')
        source = f'{file}, image {name}'
        yield LabelFile(
            source,
            name,
            partial(_objects, source, image),
            tuple(node.get('label') or '' for node in image if node.tag not in _WITHOUT_AREA),
        )


def _objects(source: str, image: Any, size: Size) -> list[LabelledObject]:
    with explained(source):
        stated = int(image.get('height', size[0])), int(image.get('width', size[1]))
    if stated != size:
        raise DataError(f'{source}: labelled at {stated} (h, w), the file has {size}')
    groups: dict[Any, list[LabelledObject]] = {}
    for number, node in enumerate(image, 1):
        if node.tag in _WITHOUT_AREA:
            continue
        with explained(f'{source}, shape {number} ({node.tag})'):
            one = _object(node, size)
            group = node.get('group_id') or '0'
            key = (number,) if group == '0' else (one.label, group)
            groups.setdefault(key, []).append(one)
    return [union(parts, size) for parts in groups.values()]


def _object(node: Any, size: Size) -> LabelledObject:
    label = node.get('label')
    if not label:
        raise ValueError('it has no label')
    if node.tag == 'box' and not float(node.get('rotation') or 0):
        x1, y1, x2, y2 = (_number(node, key) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
        return LabelledObject(label, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    if node.tag == 'mask':
        mask = _mask(node, size)
        return LabelledObject(label, box_of(mask), mask=mask)
    points = _POINTS[node.tag](node) if node.tag in _POINTS else None
    if points is None:
        raise ValueError(f'a shape of this kind is not known; known: {", ".join(_POINTS)}, mask')
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    return LabelledObject(label, (float(x1), float(y1), float(x2), float(y2)), (points,))


def _number(node: Any, key: str) -> float:
    text = node.get(key)
    value = float(text) if text is not None else np.nan
    if not np.isfinite(value):
        raise ValueError(f'{key} is {text!r}, expected a number')
    return value


def _polygon(node: Any) -> NDArray[np.float64]:
    text = node.get('points') or ''
    pairs = [pair.split(',') for pair in text.split(';') if pair.strip()]
    points = np.array([[float(value) for value in pair] for pair in pairs], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f'points are {text[:60]!r}, expected three or more pairs x,y;x,y;…')
    if not np.isfinite(points).all():
        raise ValueError('points are not finite')
    return points


def _rotated_box(node: Any) -> NDArray[np.float64]:
    x1, y1, x2, y2 = (_number(node, key) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return _rotated(corners, corners.mean(0), node)


def _ellipse(node: Any) -> NDArray[np.float64]:
    centre = np.array([_number(node, 'cx'), _number(node, 'cy')])
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    radii = np.array([_number(node, 'rx'), _number(node, 'ry')])
    return _rotated(centre + radii * np.stack([np.cos(angles), np.sin(angles)], -1), centre, node)


def _rotated(
    points: NDArray[np.float64], centre: NDArray[np.float64], node: Any
) -> NDArray[np.float64]:
    """Turn points clockwise, in degrees, as CVAT writes it."""
    angle = np.deg2rad(float(node.get('rotation') or 0))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - centre) @ turn + centre


_POINTS = {'polygon': _polygon, 'box': _rotated_box, 'ellipse': _ellipse}


def _mask(node: Any, size: Size) -> NDArray[np.bool_]:
    """Read a mask: lengths of runs, row by row inside a window, beginning outside of the object."""
    left, top, width, height = (int(_number(node, key)) for key in _WINDOW)
    inside = 0 <= left and 0 <= top and left + width <= size[1] and top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise ValueError(f'its window {width} x {height} at x={left}, y={top} leaves the image')
    runs = [int(run) for run in (node.get('rle') or '').split(',') if run.strip()]
    if any(run < 0 for run in runs) or sum(runs) != width * height:
        raise ValueError(f'its runs cover {sum(runs)} pixels, its window has {width * height}')
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    return mask


_WINDOW = ('left', 'top', 'width', 'height')
