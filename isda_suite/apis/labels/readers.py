"""Read labels of YOLO, Pascal VOC, LabelMe and CVAT, one image at a time.

The first three are read by `supervision <https://supervision.roboflow.com>`_ (extra
``supervision``), object by object, so that a mistake can be named. Outlines are kept as they were
written: the library would fill them, and its fill is half a pixel wider on every side. CVAT's
XML is read here: of the libraries that know it, datumaro pins versions of pandas and pyarrow that
exclude newer ones. XML goes through defusedxml, which refuses entities.
"""

import base64
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError

Size = tuple[int, int]
_CIRCLE_POINTS = 64


@dataclass(frozen=True)
class LabelledObject:
    """One object of an image.

    Args:
        label: Name of its class.
        box: x1, y1, x2, y2 in pixels, from the corner of the image.
        polygons: Outlines (N, 2) of its parts as x, y in pixels, as they were written.
        mask: (H, W) bool, for an object that was painted, not outlined.
    """

    label: str
    box: tuple[float, float, float, float]
    polygons: tuple[NDArray[np.float64], ...] = ()
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class LabelFile:
    """The labels of one image.

    Args:
        source: File, and in it the entry, for messages.
        image_name: Path of the image below the folder of images; a name without a suffix stands
            for whichever image has it.
        read: From the size (H, W) of the image to its objects.
        labels: Names of the classes that occur, as far as they are known before reading.
    """

    source: str
    image_name: str
    read: Callable[[Size], list[LabelledObject]]
    labels: tuple[str, ...] = ()


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turn what readers raise about a file into :class:`DataError` with its name."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        text = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise DataError(f'{source}: {text}') from error


def require_supervision() -> None:
    """Say what to install if the library is missing.

    Raises:
        ConfigError: if it is.
    """
    try:
        import defusedxml
        import supervision
        from supervision.dataset.formats import labelme

        del defusedxml, supervision, labelme
    except ImportError as error:
        raise ConfigError(
            f'labels are read by supervision >= 0.31, which is not there ({error}): pip install '
            "'isda_suite[supervision]'"
        ) from error


def parse_xml(file: Path) -> Any:
    """Return the root of an XML file.

    Raises:
        DataError: if it is no XML, or defines entities.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        return parse(file).getroot()
    except DefusedXmlException as error:
        raise DataError(f'{file}: entities are refused ({type(error).__name__})') from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f'{file} is not a whole XML file: {error}') from error


def label_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder and those below it, sorted.

    Raises:
        DataError: if there are none.
    """
    found = sorted(path for path in folder.rglob(f'*{suffix}') if path.is_file())
    if not found:
        raise DataError(f'{folder} holds no file *{suffix}')
    return found


def read_yolo(folder: Path, classes: tuple[str, ...]) -> Iterator[LabelFile]:
    """Read label files of YOLO: boxes, or polygons; a sixth number of a box is left out.

    Args:
        folder: With a ``.txt`` for each image.
        classes: Names by number.
    """
    from supervision.dataset.formats.yolo import yolo_annotations_to_detections

    def read(file: Path, size: Size) -> list[LabelledObject]:
        lines = [line for line in _text(file).splitlines() if line.strip()]
        found: list[LabelledObject] = []
        for number, line in enumerate(lines, 1):
            with explained(f'{file}, line {number}'):
                detections = yolo_annotations_to_detections([line], size[::-1], False)
                label = int(detections.class_id[0])
                if not 0 <= label < len(classes):
                    raise DataError(
                        f'{file}, line {number}: class {label}, but there are {len(classes)} '
                        f'names: {", ".join(classes)}'
                    )
                numbers = [float(value) for value in line.split()[1:]]
                outline: tuple[NDArray[np.float64], ...] = ()
                if len(numbers) > 5:  # behind a polygon may stand its score
                    points = np.array(numbers[: len(numbers) // 2 * 2], np.float64).reshape(-1, 2)
                    outline = (points * size[::-1],)
                found += _objects(detections, classes, outline)
        return found

    names = {'classes.txt', 'train.txt', 'val.txt', 'test.txt', 'obj.names'}
    for file in label_files(folder, '.txt'):
        if file.name not in names:
            stem = file.relative_to(folder).with_suffix('').as_posix()
            yield LabelFile(str(file), stem, partial(read, file), classes)


def read_voc(folder: Path) -> Iterator[LabelFile]:
    """Read the XML files of Pascal VOC: boxes, and polygons where there are any."""
    from xml.etree.ElementTree import Element

    from supervision.dataset.formats.pascal_voc import (
        detections_from_xml_obj,
        parse_polygon_points,
    )

    def read(source: str, root: Any, size: Size) -> list[LabelledObject]:
        found: list[LabelledObject] = []
        for number, node in enumerate(root.findall('object'), 1):
            with explained(f'{source}, object {number}'):
                # The pixels of VOC count from 1.
                outlines = tuple(parse_polygon_points(one) - 1 for one in node.findall('polygon'))
                bare, alone = Element('object'), Element('annotation')
                bare.extend(part for part in node if part.tag != 'polygon')
                alone.append(bare)
                detections, names = detections_from_xml_obj(alone, [], size[::-1])
                found += _objects(detections, tuple(names), outlines)
        return found

    for file in label_files(folder, '.xml'):
        root = parse_xml(file)
        if root.tag != 'annotation':
            raise DataError(f'{file}: expected <annotation>, found <{root.tag}>')
        labels = tuple(node.findtext('name') or '' for node in root.findall('object'))
        name = _base_name(root.findtext('filename') or '') or file.stem
        at = (file.relative_to(folder).parent / name).as_posix()
        source = str(file)
        yield LabelFile(source, at, partial(read, source, root), labels)


def read_labelme(folder: Path) -> Iterator[LabelFile]:
    """Read the JSON files of LabelMe: rectangles, polygons, circles and masks.

    Shapes of one label and ``group_id`` are one object. Lines and points have no area and are left
    out.
    """
    for file in label_files(folder, '.json'):
        try:
            content = json.loads(_text(file))
        except (ValueError, RecursionError) as error:
            raise DataError(f'{file} is not a whole JSON file: {error}') from error
        shapes = content.get('shapes') if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(one, dict) for one in shapes):
            raise DataError(f'{file} is no file of LabelMe: it has no list "shapes"')
        for number, shape in enumerate(shapes, 1):
            if not isinstance(shape.get('label'), str):
                raise DataError(f'{file}, shape {number}: its label is {shape.get("label")!r}')
        name = _base_name(str(content.get('imagePath') or '')) or file.stem
        yield LabelFile(
            str(file),
            (file.relative_to(folder).parent / name).as_posix(),
            partial(_labelme_objects, str(file), shapes),
            tuple(shape['label'] for shape in shapes),
        )


def _labelme_objects(source: str, shapes: list[Any], size: Size) -> list[LabelledObject]:
    from supervision.dataset.formats.labelme import labelme_shapes_to_detections

    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for number, shape in enumerate(shapes, 1):
        group = shape.get('group_id')
        key = ('alone', number) if group is None else (shape['label'], str(group))
        groups.setdefault(key, []).append((number, shape))
    found = []
    for members in groups.values():
        parts = []
        for number, shape in members:
            with explained(f'{source}, shape {number}'):
                if shape.get('shape_type') == 'mask':
                    parts.append(_labelme_mask(shape, size))
                    continue
                drawn = _as_polygon(shape)
                with warnings.catch_warnings():
                    # Of shapes without an area, which are counted by what is missing.
                    warnings.simplefilter('ignore', UserWarning)
                    one = labelme_shapes_to_detections(
                        [{**drawn, 'group_id': None}],
                        {shape['label']: 0},
                        size[::-1],
                        False,
                    )
                outline = drawn.get('shape_type') == 'polygon'
                points = (np.asarray(drawn['points'], np.float64),) if outline else ()
                parts += _objects(one, (shape['label'],), points)
        if parts:
            found.append(union(parts, size))
    return found


def _as_polygon(shape: dict[str, Any]) -> dict[str, Any]:
    """Draw a circle (its centre and a point on it) as a polygon; leave other shapes as they are."""
    if shape.get('shape_type') != 'circle':
        return shape
    centre, edge = np.asarray(shape['points'], np.float64)
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
    round_it = np.stack([np.cos(angles), np.sin(angles)], -1)
    points = centre + np.hypot(*(edge - centre)) * round_it
    return {**shape, 'shape_type': 'polygon', 'points': points.tolist()}


def _labelme_mask(shape: Mapping[str, Any], size: Size) -> LabelledObject:
    """Read a mask: a PNG in base64 whose first point is where its corner lies."""
    import cv2

    content = np.frombuffer(base64.b64decode(shape['mask'], validate=True), np.uint8)
    patch = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    if patch is None:
        raise ValueError('its mask is no PNG')
    x, y = (round(float(value)) for value in shape['points'][0])
    if x < 0 or y < 0 or y + patch.shape[0] > size[0] or x + patch.shape[1] > size[1]:
        raise ValueError(
            f'its mask of {patch.shape} (h, w) at x={x}, y={y} leaves the image of {size} (h, w)'
        )
    mask = np.zeros(size, bool)
    mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch > 0
    return LabelledObject(str(shape['label']), box_of(mask), mask=mask)


def union(parts: list[LabelledObject], size: Size) -> LabelledObject:
    """Join the parts of one object; a part that is a box alone leaves it without a mask."""
    if len(parts) == 1:
        return parts[0]
    boxes = np.array([part.box for part in parts])
    (x1, y1), (x2, y2) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    box = float(x1), float(y1), float(x2), float(y2)
    if any(part.mask is None and not part.polygons for part in parts):
        return LabelledObject(parts[0].label, box)
    if all(part.polygons for part in parts):
        outlines = tuple(one for part in parts for one in part.polygons)
        return LabelledObject(parts[0].label, box, outlines)
    masks = [fill(part.polygons, size) if part.mask is None else part.mask for part in parts]
    return LabelledObject(parts[0].label, box, mask=np.logical_or.reduce(masks))


def fill(polygons: Sequence[NDArray[np.float64]], size: Size) -> NDArray[np.bool_]:
    """Return the mask (H, W) of outlines, as every reader of COCO fills them."""
    from pycocotools import mask as coco_masks

    flat = [one.ravel().tolist() for one in polygons]
    code = coco_masks.merge(coco_masks.frPyObjects(flat, *size))
    return np.asarray(coco_masks.decode([code])[..., 0], bool)


def _objects(
    detections: Any, names: tuple[str, ...], outlines: tuple[NDArray[np.float64], ...] = ()
) -> list[LabelledObject]:
    """Take the objects out of what supervision gives, with their outlines as they were written."""
    return [
        LabelledObject(
            names[int(label)],
            (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            outlines,
        )
        for label, box in zip(detections.class_id, detections.xyxy, strict=True)
    ]


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return the box around a mask (H, W); all zeros for an empty one."""
    if not mask.any():
        return 0.0, 0.0, 0.0, 0.0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _base_name(path: str) -> str:
    """Return the last part of a path that was written on any system."""
    return PureWindowsPath(path).name


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise DataError(f'{file} is not text in UTF-8: {error}') from error
