"""What the check of a COCO file keeps of an annotation: what becomes of it, not its mask.

Whether an annotation can be used is known as soon as the size of its image is; what the rest of the
file decides is whether its category exists and is wanted.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .annotation_file import Json, usable_id, without_gc
from .coco_file import Verdict, judge, read_coco, rle_length

_CAN_BE_COMPUTED = ('bbox', 'area')


class Judgement(NamedTuple):
    """What happens with an annotation.

    Args:
        verdict: What happens.
        reason: Why.
        missing: What is not given and is computed from the mask: ``'bbox'``, ``'area'``.
    """

    verdict: Verdict
    reason: str
    missing: tuple[str, ...]


_FINE = Judgement(Verdict.USE, '', ())  # one object for nearly every annotation


class Entry(NamedTuple):
    """What is kept of an annotation.

    Args:
        identity: Its id.
        image_id: The id of its image.
        category_id: The id of its category.
        known: Its judgement, or, while the size of its image is unknown, an annotation that gets
            the same one.
    """

    identity: Any
    image_id: Any
    category_id: Any
    known: Judgement | Json

    def judgement(self, image: Json) -> Judgement:
        """Return what happens with the annotation.

        Args:
            image: Its image in the json.
        """
        if isinstance(self.known, Judgement):
            return self.known
        return _judgement(self.known, image)


def read_entries(path: str | Path) -> Json:
    """Read a COCO annotation file piece by piece, without ever holding its masks.

    Where ``images`` stands behind ``annotations``, as in LVIS, the boxes and the extents of the
    polygons are held until the images are known.

    Returns:
        The file's content, with an :class:`Entry` in the place of every annotation.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a COCO json.
    """
    images: dict[Any, Json] = {}

    def keep_image(image: Json) -> Json:
        # The decoder shares equal keys only within a call, and here every image is one.
        image = {sys.intern(key): value for key, value in image.items()}
        images[usable_id(image.get('id'))] = image
        return image

    def keep_entry(annotation: Json) -> Entry:
        known: Judgement | Json
        try:
            known = _judgement(annotation, images[annotation['image_id']])
        except (KeyError, TypeError):
            # Its image is absent, so far or for good, or has no size.
            known = shrink(annotation)
        return _entry(annotation, known)

    return read_coco(path, {'images': keep_image, 'annotations': keep_entry})


def entries_of(annotations: Sequence[Json | Entry]) -> list[Entry]:
    """Return the entries of the annotations of a file that was read with or without its masks."""
    with without_gc():
        return [one if isinstance(one, Entry) else _entry(one, one) for one in annotations]


def shrink(annotation: Json) -> Json:
    """Return a small annotation that is judged as this one is, whatever the size of its image.

    Of a polygon its extent is left, of an RLE the number of pixels that it covers.
    """
    keys = (*_CAN_BE_COMPUTED, 'iscrowd', 'ignore', 'segmentation')
    small = {key: annotation[key] for key in keys if key in annotation}
    segmentation = small.get('segmentation')
    try:
        if isinstance(segmentation, list):
            small['segmentation'] = [_extent(polygon) for polygon in segmentation]
        elif isinstance(segmentation, dict) and isinstance(segmentation.get('counts'), str | list):
            length = rle_length(segmentation['counts'])
            small['segmentation'] = {'size': segmentation.get('size'), 'counts': [length]}
    except (ValueError, TypeError, OverflowError):
        pass  # It cannot be read; it is judged as it stands.
    return small


def _extent(polygon: Any) -> Any:
    if not isinstance(polygon, list) or len(polygon) <= 6 or len(polygon) % 2:
        return polygon
    xs, ys = polygon[0::2], polygon[1::2]
    first, last = [min(xs), min(ys)], [max(xs), max(ys)]
    extent = [*first, *last, *first]  # three points: fewer are no polygon
    return extent if math.isfinite(sum(polygon)) and math.isfinite(sum(extent)) else polygon


def _entry(annotation: Json, known: Judgement | Json) -> Entry:
    get = annotation.get
    image_id, category_id = usable_id(get('image_id')), usable_id(get('category_id'))
    return Entry(usable_id(get('id')), image_id, category_id, known)


def _judgement(annotation: Json, image: Json) -> Judgement:
    verdict, reason = judge(annotation, image['height'], image['width'])
    missing = tuple([key for key in _CAN_BE_COMPUTED if annotation.get(key) is None])
    return _FINE if verdict is Verdict.USE and not missing else Judgement(verdict, reason, missing)
