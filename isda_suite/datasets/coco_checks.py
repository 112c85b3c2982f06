"""Find everything wrong in a COCO annotation file, without opening an image."""

import functools
import os.path
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .annotation_file import Json, is_size, usable_id
from .coco_entries import Entry, entries_of
from .coco_file import Verdict, category_problems, class_names, labels_by_name
from .report import Report

MAX_ORPHAN_SHARE = 0.01


@dataclass(frozen=True)
class Expectation:
    """What a data set wants from its annotation file.

    Args:
        ann_file: The file, for messages.
        classes: Class names of the config; ``None`` takes those of the json.
        root: Folder that no image may lie outside of.
        img_prefix: Folder that ``file_name`` is relative to.
        allow_outside: Whether images may lie outside of ``root``.
        needs_annotations: False for test sets without labels.
        filter_empty: Whether images without a usable annotation are left out.
        min_size: Least shorter side of an image that is used.
    """

    ann_file: str
    classes: tuple[str, ...] | None
    root: str
    img_prefix: str
    allow_outside: bool = False
    needs_annotations: bool = True
    filter_empty: bool = False
    min_size: int = 0


def check_coco(content: Json, expected: Expectation) -> Report:
    """Check a COCO annotation file.

    Args:
        content: The file, whole or, which takes less memory, as
            :func:`~isda_suite.datasets.coco_entries.read_entries` gives it.
        expected: What the data set wants of it.

    Returns:
        A report; it is fatal when training on the file would go wrong.
    """
    report = Report(expected.ann_file)
    annotations = content.get('annotations')
    report.facts = {
        'images': len(content['images']),
        'annotations': len(annotations or ()),
        'categories': len(content['categories']),
    }
    for problem in category_problems(content['categories'], expected.classes):
        report.add('classes do not fit', problem, fatal=True)
    images = _check_images(content['images'], expected, report)
    if not isinstance(annotations, list):
        if expected.needs_annotations:
            report.add('the file has no list "annotations"', fatal=True)
        return report
    entries = entries_of(annotations)
    sound = not report.fatal  # without sound ids every annotation would look orphaned
    _check_ids(entries, report)
    if sound:
        _check_annotations(content, entries, images, expected, report)
    return report


def leaves_root(file_name: str, img_prefix: str, root: str) -> bool:
    """Whether an image lies outside of ``root``; links inside it may point anywhere."""
    folder, name = os.path.split(file_name)
    if name in ('', os.curdir, os.pardir):
        folder = file_name
    return _folder_leaves_root(folder, img_prefix, root)


@functools.lru_cache(maxsize=4096)  # a data set has many images and few folders
def _folder_leaves_root(file_name: str, img_prefix: str, root: str) -> bool:
    base = os.path.normpath(root or img_prefix or os.curdir)
    path = os.path.normpath(os.path.join(img_prefix, file_name))
    if base == os.curdir:
        return os.path.isabs(path) or path.split(os.sep)[0] == os.pardir
    return os.path.commonpath([os.path.abspath(base), os.path.abspath(path)]) != os.path.abspath(
        base
    )


def _check_images(images: list[Json], expected: Expectation, report: Report) -> dict[Any, Json]:
    by_id: dict[Any, Json] = {}
    for index, image in enumerate(images):
        missing = _missing_in(image)
        if missing:
            keys = ', '.join(missing)
            report.add(f'image without {keys}', f'images[{index}]: {str(image)[:200]}', fatal=True)
            continue
        name = image['file_name']
        if image['id'] in by_id:
            report.add(
                'two images with the same id',
                f'image id {image["id"]}: {by_id[image["id"]]["file_name"]} and {name}',
                fatal=True,
            )
        by_id[image['id']] = image
        if not expected.allow_outside and leaves_root(name, expected.img_prefix, expected.root):
            report.add(
                f'file_name points out of {expected.root or expected.img_prefix} '
                '(dataset option allow_outside=True permits it)',
                f'image id {image["id"]}: {name}',
                fatal=True,
            )
    return by_id


def _missing_in(image: Json) -> list[str]:
    usable = {
        'id': usable_id(image.get('id')) is not None,
        'file_name': bool(image.get('file_name')) and isinstance(image['file_name'], str),
        'height': is_size(image.get('height')),
        'width': is_size(image.get('width')),
    }
    return [key for key, there in usable.items() if not there]


def _check_ids(entries: list[Entry], report: Report) -> None:
    for index, entry in enumerate(entries):
        if entry.identity is None:
            report.add('annotation without id', f'annotations[{index}]', fatal=True)
    counts = Counter(one.identity for one in entries if one.identity is not None)
    if len(counts) < len(entries):
        for identity, count in counts.items():
            if count > 1:
                report.add(
                    'annotations with the same id',
                    f'annotation id {identity} stands {count} times',
                    fatal=True,
                )


def _check_annotations(
    content: Json,
    entries: list[Entry],
    images: dict[Any, Json],
    expected: Expectation,
    report: Report,
) -> None:
    names = {one['id']: str(one['name']) for one in content['categories']}
    classes = expected.classes or class_names(content['categories'])
    wanted = labels_by_name(content['categories'], classes)
    usable: Counter[Any] = Counter()
    orphans = unused = 0
    for entry in entries:
        image = images.get(entry.image_id)
        place = _place(entry, image)
        if image is None or entry.category_id not in names:
            orphans += 1
            what = 'absent image' if image is None else 'unknown category'
            report.add(f'annotation of an {what}: dropped', place())
        elif entry.category_id not in wanted:
            unused += 1
        elif _count_one(entry, image, report, place):
            usable[image['id']] += 1
    if unused:
        extra = sorted(set(names.values()) - set(classes))
        report.add(
            'annotation of a category that the config does not name: left out',
            ', '.join(extra[:20]),
            count=unused,
        )
    if orphans > MAX_ORPHAN_SHARE * len(entries):
        report.add(
            'more than 1 % of the annotations belong to no image or category of the file',
            f'{orphans} of {len(entries)}',
            fatal=True,
            count=orphans,
        )
    report.facts['usable annotations'] = usable.total()
    _check_left(images, usable, expected, report)


def _place(entry: Entry, image: Json | None) -> Callable[[], str]:
    # A function, because nearly every annotation is fine and needs no text.
    def text() -> str:
        name = image['file_name'] if image else 'no such image'
        return f'{name}, image id {entry.image_id}, annotation id {entry.identity}'

    return text


def _count_one(entry: Entry, image: Json, report: Report, place: Callable[[], str]) -> bool:
    """Count what is odd about an annotation; return whether it is a target."""
    verdict, reason, missing = entry.judgement(image)
    if verdict is Verdict.WRONG:
        report.add('mask does not fit the image', f'{place()}: {reason}', fatal=True)
    elif verdict is Verdict.CROWD:
        report.add(f'{verdict.value}', place())
    elif verdict is not Verdict.USE:
        report.add(f'{reason}: {verdict.value}', place())
    if verdict not in (Verdict.DROP, Verdict.WRONG):
        for key in missing:
            report.add(f'annotation without {key}: computed from its mask', place())
    return verdict is Verdict.USE


def _check_left(
    images: dict[Any, Json], usable: Counter[Any], expected: Expectation, report: Report
) -> None:
    """Refuse a file of which every image is left out, and say by what."""
    empty = [key for key in images if not usable[key]] if expected.filter_empty else []
    small = [
        key
        for key, image in images.items()
        if min(image['height'], image['width']) < expected.min_size
    ]
    left = len(images) - len({*empty, *small})
    report.facts['images used'] = left
    if not expected.needs_annotations or left:
        return
    report.add(
        f'0 of {len(images)} images left: {len(empty)} without a usable annotation, '
        f'{len(small)} with a side under {expected.min_size} px '
        f'(filter_cfg of the data set); images looked for in {expected.img_prefix}',
        fatal=True,
        count=len(images),
    )
