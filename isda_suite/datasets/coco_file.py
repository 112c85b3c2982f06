"""What a COCO annotation file holds: reading it, its categories, and what one annotation is worth.

The reader and the checks share these functions, so they cannot disagree about what is used.
"""

import difflib
import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from .errors import DataError
from .json_stream import load_json

Json = dict[str, Any]


class Verdict(Enum):
    """What happens with an annotation."""

    USE = 'used'
    CROWD = 'crowd region, ignored in losses and matching'
    IGNORE = 'becomes an ignored region'
    DROP = 'dropped'
    WRONG = 'cannot be used'


@contextmanager
def without_gc() -> Iterator[None]:
    """Pause the garbage collector while millions of small objects are made.

    It would search them over and over and find nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_coco(path: str | Path, keep: Mapping[str, Callable[[Json], Any]] | None = None) -> Json:
    """Read a COCO annotation file.

    Args:
        path: The file.
        keep: Key of a list of the file -> what is kept of an element of it. With such a function
            the file is read piece by piece, and the list never stands in memory as a whole.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a COCO json.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'no annotation file {path} (seen from {Path.cwd()}): check data_root and ann_file'
        )
    try:
        with without_gc():
            # Where all of it is kept, the text is what little there is to save.
            content = load_json(path, keep) if keep else json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f'{path} is not a whole json file: {error}') from error
    for key in ('images', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f'{path}: expected the COCO format, an object with the lists "images", '
                f'"annotations" and "categories", but "{key}" is missing or no list'
            )
    return content


def class_names(categories: Sequence[Json]) -> tuple[str, ...]:
    """Return the names of the json's categories, ordered by id."""
    return tuple(str(one['name']) for one in sorted(categories, key=lambda one: one['id']))


def category_problems(categories: Sequence[Json], classes: Sequence[str] | None) -> list[str]:
    """Return what keeps the classes of a config from being found in the json, one text each."""
    without = [one for one in categories if 'id' not in one or 'name' not in one]
    if without:
        return [f'category without id or name: {one}' for one in without]
    problems = []
    for key in ('id', 'name'):
        counts = Counter(one[key] for one in categories)
        problems += [
            f'category {key} {value!r} stands {count} times in the json'
            for value, count in counts.items()
            if count > 1
        ]
    names = [str(one['name']) for one in categories]
    for name in classes or ():
        if name not in names:
            # Near names, or for a small json all of them.
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:10]
            problems.append(
                f'class {name!r} of the config (metainfo.classes) is not among the '
                f'{len(names)} categories of the json; nearest: {", ".join(near)}'
            )
    return problems


def labels_by_name(categories: Sequence[Json], classes: Sequence[str]) -> dict[int, int]:
    """Map category ids to labels by name, whatever the order in the json.

    Args:
        categories: Categories of the json.
        classes: Class names; their position is the label.

    Returns:
        Category id -> label, in the order of the labels; categories that are no class are absent.
    """
    ids = {str(one['name']): one['id'] for one in categories}
    return {ids[name]: label for label, name in enumerate(classes)}


def rle_length(counts: str | bytes | Sequence[int]) -> int:
    """Return how many pixels the runs of an RLE cover.

    Args:
        counts: List of run lengths, or COCO's compressed text: five bits a character from the
            lowest, bit 0x20 says that more follow, runs from the third on are differences to the
            run two places before.

    Raises:
        ValueError: if the text ends inside a number or a run is negative.
    """
    if not isinstance(counts, str | bytes):
        return sum(counts) if all(run >= 0 for run in counts) else -1
    data = counts.encode('ascii') if isinstance(counts, str) else counts
    total = before_last = last = value = shift = index = 0
    for character in data:
        bits = character - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        if index > 2:
            value += before_last
        if value < 0:
            raise ValueError('a run is negative')
        before_last, last = last, value
        total += value
        index, value, shift = index + 1, 0, 0
    if shift:
        raise ValueError('the text ends inside a number')
    return total


def rle_problem(segmentation: Json, height: int, width: int) -> str:
    """Return what is wrong with an RLE for an image of this size; empty if nothing is."""
    size, counts = segmentation.get('size'), segmentation.get('counts')
    if not isinstance(size, list) or not isinstance(counts, str | bytes | list):
        return 'RLE without size or counts'
    if list(size) != [height, width]:
        return f'RLE size (h, w) = {tuple(size)} but the image is {(height, width)}'
    try:
        length = rle_length(counts)
    except (ValueError, TypeError) as error:
        return f'RLE counts cannot be read: {error}'
    if length != height * width:
        return f'RLE counts cover {length} pixels, but {height} x {width} = {height * width}'
    return ''


def judge(annotation: Json, height: int, width: int) -> tuple[Verdict, str]:
    """Decide what happens with an annotation, and why.

    Args:
        annotation: Annotation of the json.
        height: Height of its image.
        width: Width of its image.

    Returns:
        The verdict and its reason.
    """
    if annotation.get('ignore'):
        return Verdict.DROP, 'marked "ignore"'
    box = annotation.get('bbox')
    if box is not None:
        reason = _box_problem(box, height, width)
        if reason:
            return Verdict.DROP, reason
    area = annotation.get('area')
    if area is not None and not area > 0:
        return Verdict.DROP, 'area of zero or less'
    segmentation = annotation.get('segmentation')
    if not segmentation:
        if box is None:
            return Verdict.DROP, 'neither box nor mask'
        return Verdict.IGNORE, 'no mask'
    if isinstance(segmentation, dict):
        reason = rle_problem(segmentation, height, width)
        verdict = Verdict.WRONG if reason else Verdict.USE
    else:
        verdict, reason = _judge_polygons(segmentation, height, width)
    if verdict is Verdict.USE and annotation.get('iscrowd'):
        return Verdict.CROWD, ''
    return verdict, reason


def _box_problem(box: Sequence[float], height: int, width: int) -> str:
    if len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return 'box is not four numbers'
    x, y, w, h = box
    if not math.isfinite(x + y + w + h):
        return 'box with a value that is not finite'
    if w < 1 or h < 1:
        return 'box smaller than one pixel'
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return 'box outside the image'
    return ''


def _judge_polygons(polygons: Sequence[Any], height: int, width: int) -> tuple[Verdict, str]:
    whole = [
        polygon
        for polygon in polygons
        if isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
    ]
    if not whole:
        return Verdict.IGNORE, 'every polygon has under three points or an odd length'
    if not all(math.isfinite(sum(polygon)) for polygon in whole):
        return Verdict.DROP, 'polygon with a value that is not finite'
    # Nearly every polygon starts inside; only for the others its extent is looked for.
    inside = any(0 < polygon[0] < width and 0 < polygon[1] < height for polygon in whole) or any(
        max(polygon[0::2]) > 0
        and min(polygon[0::2]) < width
        and max(polygon[1::2]) > 0
        and min(polygon[1::2]) < height
        for polygon in whole
    )
    if not inside:
        return Verdict.DROP, 'polygons outside the image'
    return Verdict.USE, ''


def with_box_and_area(annotation: Json, height: int, width: int) -> Json:
    """Return the annotation with a missing box or area computed from its mask."""
    if annotation.get('bbox') is not None and annotation.get('area') is not None:
        return annotation
    if not annotation.get('segmentation'):
        *_, w, h = annotation['bbox']
        return {**annotation, 'area': w * h}
    from pycocotools import mask as coco_mask

    segmentation = annotation['segmentation']
    rle = segmentation
    if isinstance(segmentation, list):
        whole = [part for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
        rle = coco_mask.merge(coco_mask.frPyObjects(whole, height, width))
    elif isinstance(segmentation['counts'], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    computed = {
        'bbox': [float(value) for value in coco_mask.toBbox(rle)],
        'area': float(coco_mask.area(rle)),
    }
    given = {key: value for key, value in annotation.items() if value is not None}
    return computed | given
