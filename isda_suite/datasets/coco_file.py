"""What a COCO annotation file holds: reading it, its categories, and what one annotation is worth.

The reader and the checks share these functions, so they cannot disagree about what is used.
"""

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from .annotation_file import Json, Keep, read_annotation_file, usable_id

#: How far a polygon may reach out of its image, in sides of it. Drawing one takes memory and time
#: by its length.
_MAX_REACH = 10


class Verdict(Enum):
    """What happens with an annotation."""

    USE = 'used'
    CROWD = 'crowd region, ignored in losses and matching'
    IGNORE = 'becomes an ignored region'
    DROP = 'dropped'
    WRONG = 'cannot be used'


def read_coco(path: str | Path, keep: Mapping[str, Keep] | None = None) -> Json:
    """Read a COCO annotation file.

    Args:
        path: The file.
        keep: As for :func:`~isda_suite.datasets.annotation_file.read_annotation_file`.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a COCO json.
    """
    return read_annotation_file(path, 'COCO', ('images', 'categories'), keep)


def class_names(categories: Sequence[Json]) -> tuple[str, ...]:
    """Return the names of the json's categories, ordered by id, numbers before texts."""

    def place(category: Json) -> tuple[bool, Any]:
        return isinstance(category['id'], str), category['id']

    return tuple(str(one['name']) for one in sorted(categories, key=place))


def category_problems(categories: Sequence[Json], classes: Sequence[str] | None) -> list[str]:
    """Return what keeps the classes of a config from being found in the json, one text each."""
    without = [one for one in categories if not _is_category(one)]
    if without:
        return [f'category without id or name: {str(one)[:80]}' for one in without]
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


def _is_category(category: Json) -> bool:
    return usable_id(category.get('id')) is not None and isinstance(category.get('name'), str | int)


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
        ValueError: if the text ends inside a number, or a run is negative or no whole number.
    """
    if not isinstance(counts, str | bytes):
        if not all(isinstance(run, int) for run in counts):
            raise ValueError('a run is no whole number')
        if any(run < 0 for run in counts):
            raise ValueError('a run is negative')
        return sum(counts)
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
    if size != [height, width] or not all(isinstance(side, int) for side in size):
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
    try:
        return _judge(annotation, height, width)
    except (TypeError, ValueError, OverflowError) as error:
        return Verdict.WRONG, f'segmentation, box or area of a wrong type: {error}'


def _judge(annotation: Json, height: int, width: int) -> tuple[Verdict, str]:
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
    elif not isinstance(segmentation, list):
        raise TypeError(f'neither RLE nor polygons: {str(segmentation)[:20]!r}')
    else:
        verdict, reason = _judge_polygons(segmentation, height, width)
    if verdict is Verdict.IGNORE and box is None:
        return Verdict.DROP, reason  # no box either, so it is nowhere
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
    if max(map(abs, box)) > _MAX_REACH * max(height, width):
        return f'box that leaves the image by more than {_MAX_REACH} times'
    return ''


def _whole_polygons(polygons: Sequence[Any]) -> list[list[float]]:
    """Return the polygons that have three points or more."""
    return [
        polygon
        for polygon in polygons
        if isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
    ]


def _judge_polygons(polygons: Sequence[Any], height: int, width: int) -> tuple[Verdict, str]:
    whole = _whole_polygons(polygons)
    if not whole:
        return Verdict.IGNORE, 'every polygon has under three points or an odd length'
    if not all(math.isfinite(sum(polygon)) for polygon in whole):
        return Verdict.DROP, 'polygon with a value that is not finite'
    reach = _MAX_REACH * max(height, width)
    if not all(-reach < min(polygon) and max(polygon) < reach for polygon in whole):
        return Verdict.DROP, f'polygon that leaves the image by more than {_MAX_REACH} times'
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
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, list):
        segmentation = _whole_polygons(segmentation)
    if not segmentation:
        *_, w, h = annotation['bbox']
        return {**annotation, 'area': w * h}
    from pycocotools import mask as coco_mask

    rle = segmentation
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation['counts'], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    computed = {
        'bbox': [float(value) for value in coco_mask.toBbox(rle)],
        'area': float(coco_mask.area(rle)),
    }
    given = {key: value for key, value in annotation.items() if value is not None}
    return computed | given
