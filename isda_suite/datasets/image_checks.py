"""Decode every image and label image of a data set: what a check does on request."""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .errors import DataError
from .image_file import check_size, decode_image, read_content
from .image_header import read_header
from .label_file import LabelRule, check_label_size, class_ids, decode_label, rule_of
from .report import Report

Record = dict[str, Any]
#: Title, example, whether it is fatal.
Fault = tuple[str, str, bool]
BROKEN = 'label broken'
OTHER_SIZE = 'label of another size than its image'
NO_IDS = 'label that does not hold the ids of the classes'


def check_images(dataset: Any, progress: bool = False) -> Report:
    """Decode every image and label image of a loaded data set.

    Args:
        dataset: The data set; its records, or the frames (``images``) of its videos, hold
            ``img_path``, and ``height`` and ``width`` or ``seg_map_path`` where there is something
            to compare with.
        progress: Whether to show a progress bar.

    Returns:
        A report; missing, broken and wrongly sized files are fatal, and labels that hold anything
        but the ids of the classes.
    """
    from tqdm import tqdm

    report = Report(str(dataset.ann_file))
    rule = rule_of(dataset)
    look = functools.partial(_look, rule=rule, needs_label=not dataset.test_mode)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        total = getattr(dataset, 'num_all_imgs', len(dataset))
        results = pool.map(look, _images_of(dataset))
        for faults in tqdm(results, 'images', total, unit='img', disable=not progress):
            for title, example, fatal in faults:
                report.add(title, example, fatal)
    report.facts['images decoded'] = total
    return report


def frame_place(image: Record) -> str:
    """Say which frame of which video an image is; empty if it is none."""
    if 'video_id' not in image:
        return ''
    return f'video id {image["video_id"]}, frame {image.get("frame_id")}: '


def _images_of(dataset: Any) -> Iterator[Record]:
    """Yield the record of every image, or of every frame of every video, once."""
    frames = set()
    for index in range(len(dataset)):
        record = dataset.get_data_info(index)
        for image in record.get('images', [record]):
            place = (image.get('video_id'), image.get('frame_id'))
            if place in frames:  # clips of a video share frames
                continue
            if None not in place:
                frames.add(place)
            # Without the masks: all records wait in the pool at once.
            yield {key: value for key, value in image.items() if key != 'instances'}


def _look(info: Record, rule: LabelRule | None, needs_label: bool) -> list[Fault]:
    place = frame_place(info)
    faults = _faults_of(info, rule, needs_label)
    return [(title, f'{place}{example}', fatal) for title, example, fatal in faults]


def _faults_of(info: Record, rule: LabelRule | None, needs_label: bool) -> list[Fault]:
    path = info['img_path']
    try:
        content = read_content(path)
        size_hw = decode_image(content, path).shape[:2]
    except DataError as error:
        title = 'image broken' if os.path.isfile(path) else 'image missing'
        return [(title, str(error), True)]
    faults: list[Fault] = []
    if 'height' in info and 'width' in info:
        try:
            check_size(path, size_hw, (info['height'], info['width']))
        except DataError as error:
            faults.append(('image of another size than annotated', str(error), True))
    header = read_header(io.BytesIO(content))
    if header is not None:
        faults += [(f'image with {loss}', path, False) for loss in header.losses()]
    label_path = info.get('seg_map_path')
    if rule is not None and label_path and (needs_label or os.path.isfile(label_path)):
        faults += _look_at_label(label_path, path, size_hw, rule)
    return faults


def _look_at_label(
    path: str, img_path: str, size_hw: Sequence[int], rule: LabelRule
) -> list[Fault]:
    title = BROKEN
    try:
        label = decode_label(read_content(path), path, raw=rule.colours is not None)
        title = OTHER_SIZE
        check_label_size(path, label.shape[:2], img_path, size_hw)
        title = NO_IDS
        ids, unknown = class_ids(label, path, rule)
    except DataError as error:
        return [(title, str(error), True)]
    faults: list[Fault] = []
    if unknown:
        faults.append(
            (
                f'label with colours of no class: they become class {rule.unknown_id}',
                f'{path}: {unknown} pixels',
                False,
            )
        )
    if np.all(ids == rule.ignore_index):
        faults.append(('label whose pixels are all ignored', path, False))
    return faults
