"""Check which images and label images there are, in seconds: no pixel is decoded."""

import os
from collections.abc import Sequence
from typing import Any

from .coco_checks import leaves_root
from .errors import DataError
from .image_checks import BROKEN, NO_IDS, OTHER_SIZE
from .image_file import (
    MAX_BANDS,
    fault_of_content,
    read_content,
    read_image,
    too_many_bands,
)
from .image_header import read_header
from .label_file import LabelRule, check_label_size, check_one_channel, rule_of
from .report import Report
from .segmentation_files import files_below, is_remote, looked_for, nothing_left

_NUM_PROBED = 50
Record = dict[str, Any]


def check_segmentation(dataset: Any) -> Report:
    """Check which files a data set finds, and the headers of some, spread over the set.

    Args:
        dataset: A ``BaseSegDataset`` of mmseg or ours, not loaded yet.

    Returns:
        A report; it is fatal when training on these files would go wrong.

    Raises:
        FileNotFoundError: if a folder or the list of names is missing.
    """
    folder = str(dataset.data_prefix.get('img_path') or '')
    report = Report(str(dataset.ann_file or folder or type(dataset).__name__))
    rule = rule_of(dataset)
    if rule is None:
        report.add('metainfo names no classes: values of labels are not checked')
    if is_remote(dataset):
        report.add('the files are not on this disk: not looked for', folder)
        return report
    if not folder:
        report.add('data_prefix has no img_path', f'found {dataset.data_prefix}', fatal=True)
        return report
    _require_paths(dataset)
    records = dataset.load_data_list()
    if not records:
        report.add(nothing_left(dataset), fatal=True)
        return report
    report.facts['images'] = len(records)
    _check_images(dataset, records, files_below(folder), report)
    _check_labels(dataset, records, report)
    for record in records[:: max(1, len(records) // _NUM_PROBED)]:
        _probe(record, rule, report)
    return report


def _require_paths(dataset: Any) -> None:
    places = [(f'data_prefix.{key}', path) for key, path in dataset.data_prefix.items()]
    places += [('ann_file', dataset.ann_file)]
    for name, path in places:
        if path and not os.path.exists(path):
            raise FileNotFoundError(
                f'{name}: there is no {path} (working directory {os.getcwd()}): check data_root '
                'and data_prefix'
            )


def _check_images(dataset: Any, records: list[Record], files: set[str], report: Report) -> None:
    seen: set[str] = set()
    root = str(dataset.data_root or dataset.data_prefix['img_path'])
    for record in records:
        path = os.path.normpath(record['img_path'])
        if not getattr(dataset, 'allow_outside', False) and leaves_root(path, '', root):
            report.add(
                f'name points out of {root} (option allow_outside=True of '
                'isda_suite.SemanticDataset permits it)',
                f'{record["img_path"]}, named in {dataset.ann_file}',
                fatal=True,
            )
        # A list may lead out of the folder that was listed.
        if path not in files and not os.path.isfile(path):
            report.add('image missing', f'no {path}, named in {dataset.ann_file}', fatal=True)
        if path in seen:
            report.add('image listed twice: used twice', record['img_path'])
        seen.add(path)


def _check_labels(dataset: Any, records: list[Record], report: Report) -> None:
    """Compare the label files with the samples; a test set may do without all of them."""
    folder = dataset.data_prefix.get('seg_map_path')
    wanted = {os.path.normpath(one['seg_map_path']) for one in records if one.get('seg_map_path')}
    if not folder or not wanted:
        if not dataset.test_mode:
            report.add(
                'training needs labels, and data_prefix has no seg_map_path',
                f'found {dataset.data_prefix}',
                fatal=True,
            )
        return
    files = files_below(folder)
    found = {path for path in wanted if path in files or os.path.isfile(path)}
    report.facts['labels'] = len(found)
    if not found:
        suffix = dataset.seg_map_suffix
        report.add(
            f'no image has a label: {looked_for(folder, suffix, "seg_map_suffix")}',
            fatal=not dataset.test_mode,
            count=len(wanted),
        )
        return
    for path in sorted(wanted - found):
        report.add('image without a label', f'no {path}', fatal=True)
    if dataset.ann_file:
        return  # the folder of a list holds the labels of other parts too
    for path in sorted(files - wanted):
        if path.endswith(dataset.seg_map_suffix):
            report.add('label without an image: not used', path)


def _probe(record: Record, rule: LabelRule | None, report: Report) -> None:
    """Look at the headers of an image and its label."""
    path, label_path = record['img_path'], record.get('seg_map_path')
    if not os.path.isfile(path):
        return
    try:
        header = read_header(path)
        # OpenCV knows formats that Pillow does not, and says what is wrong with the others.
        size_hw = header.size_hw if header is not None else read_image(path).shape[:2]
        if header is not None and header.channels > MAX_BANDS:
            raise DataError(f'{path}: {too_many_bands(header.channels)}')
    except DataError as error:
        report.add('image broken', str(error), fatal=True)
        return
    for loss in header.losses() if header is not None else ():
        report.add(f'image with {loss}', path)
    if label_path and os.path.isfile(label_path):
        _probe_label(label_path, path, size_hw, rule, report)


def _probe_label(
    path: str, img_path: str, image_hw: Sequence[int], rule: LabelRule | None, report: Report
) -> None:
    header = read_header(path)
    if header is None:
        report.add(BROKEN, f'{path}: {fault_of_content(read_content(path))}', fatal=True)
        return
    title = OTHER_SIZE
    try:
        check_label_size(path, header.size_hw, img_path, image_hw)
        title = NO_IDS
        if rule is None or rule.colours is None:
            check_one_channel(path, header.channels)
    except DataError as error:
        report.add(title, str(error), fatal=True)
    if header.deep:
        report.add('label with more than 8 bits a channel: its values decide on loading', path)
