"""Bring downloads of semantic data sets into the folders that the configurations read."""

import functools
import glob
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.datasets import DataError, DeepGlobeDataset, InriaAerialDataset
from isda_suite.datasets.image_checks import BROKEN, NO_IDS, OTHER_SIZE
from isda_suite.datasets.image_file import read_content, read_image
from isda_suite.datasets.image_header import read_header
from isda_suite.datasets.label_file import LabelRule, check_label_size, class_ids, decode_label
from isda_suite.datasets.report import Report

_SPLITS = ('train', 'val', 'test')
#: Title, example, whether it is fatal, how many it stands for.
_Fault = tuple[str, str, bool, int]


@dataclass(frozen=True)
class Layout:
    """Where the files of a data set lie in its download, and where they belong.

    Args:
        dataset: Class of the data set.
        download: Arguments of the class that read the download.
        description: What the download is, for messages.
        image_folder: Holds ``train``, ``val`` and ``test`` with images.
        label_folder: Holds ``train``, ``val`` and ``test`` with label images of class ids.
        size_hw: Size of every image of the original.
    """

    dataset: Any
    download: dict[str, Any]
    description: str
    image_folder: str
    label_folder: str
    size_hw: tuple[int, int]


DEEPGLOBE = Layout(
    dataset=DeepGlobeDataset,
    download={'data_prefix': {'img_path': '', 'seg_map_path': ''}},
    description='the official training set: ID_sat.jpg and ID_mask.png (RGB) in one folder',
    image_folder='img_dir',
    label_folder='rgb2id',
    size_hw=(2448, 2448),
)
INRIA_AERIAL = Layout(
    dataset=InriaAerialDataset,
    download={
        'data_prefix': {'img_path': 'train/images', 'seg_map_path': 'train/gt'},
        'img_suffix': '.tif',
        'seg_map_suffix': '.tif',
    },
    description='the folder AerialImageDataset: train/images/NAME.tif and train/gt/NAME.tif',
    image_folder='imgs',
    label_folder='labels',
    size_hw=(5000, 5000),
)


@dataclass(frozen=True)
class _Pair:
    """An image and its mask: where they are and where they go."""

    name: str
    split: str
    image: str
    mask: str
    new_image: str
    new_label: str
    rule: LabelRule = field(repr=False)

    @property
    def is_done(self) -> bool:
        # Files take their names when they are whole; a link whose image is gone does not exist.
        return os.path.exists(self.new_label) and os.path.exists(self.new_image)


def convert_layout(
    layout: Layout,
    src: str | Path,
    dst: str | Path,
    lists: str | Path | None = None,
    copy: bool = False,
    workers: int = 1,
) -> Report:
    """Write the folders of a data set: images, and label images of class ids.

    What is there already is left as it is, so that an interrupted run can be repeated. A pair with
    a fault is left out, all others are written.

    Args:
        layout: The data set.
        src: The download.
        dst: Folder to write.
        lists: Folder with ``train.txt``, ``val.txt`` and ``test.txt``, or some of them, one name a
            line; ``None`` takes the published lists.
        copy: Whether images are copied; else they are symbolic links to the download.
        workers: Processes that work at the same time.

    Returns:
        Counts, and everything that is wrong.

    Raises:
        FileNotFoundError: if the download or the lists are not there.
        DataError: if the download holds no image, or a name of a list leads out of its folder.
    """
    pairs = list(_pairs(layout, Path(src), Path(dst), lists))
    report = Report(str(dst))
    for split in _SPLITS:
        report.facts[f'names in {split}'] = sum(pair.split == split for pair in pairs)
    _note_unlisted(layout, Path(src), pairs, report)
    waiting = [pair for pair in pairs if not pair.is_done]
    report.facts['pairs that were there already'] = len(pairs) - len(waiting)
    waiting = _without_missing(waiting, report)
    work = functools.partial(_convert, copy=copy, official_hw=layout.size_hw)
    report.facts['pairs written'] = _run(work, waiting, workers, report) if waiting else 0
    return report


def _run(
    work: Callable[[_Pair], list[_Fault]], pairs: Sequence[_Pair], workers: int, report: Report
) -> int:
    """Work on the pairs in several processes; return how many were written."""
    from tqdm.contrib.concurrent import process_map

    written = 0
    options = {'max_workers': workers, 'chunksize': 1, 'unit': 'pair', 'disable': None}
    for faults in process_map(work, pairs, desc='writing', **options):
        written += not any(fatal for _, _, fatal, _ in faults)
        for fault in faults:
            report.add(*fault)
    return written


def _pairs(layout: Layout, src: Path, dst: Path, lists: str | Path | None) -> Iterator[_Pair]:
    _require_images(layout, src)
    for split, names in _names(lists).items():
        old = layout.dataset(
            data_root=str(src), raw_masks=True, lazy_init=True, **layout.download, **names
        )
        folders = [os.path.join(one, split) for one in (layout.image_folder, layout.label_folder)]
        prefix = dict(zip(('img_path', 'seg_map_path'), folders, strict=True))
        new = layout.dataset(data_root=str(dst), data_prefix=prefix, lazy_init=True, **names)
        for before, after in zip(old.load_data_list(), new.load_data_list(), strict=True):
            name = os.path.relpath(after['img_path'], dst / folders[0])
            if name.split(os.sep)[0] == os.pardir:
                raise DataError(f'{names["ann_file"]}: {name} leads out of the folder {folders[0]}')
            yield _Pair(
                name=name.removesuffix(new.img_suffix),
                split=split,
                image=before['img_path'],
                mask=before['seg_map_path'],
                new_image=after['img_path'],
                new_label=after['seg_map_path'],
                rule=before['label_rule'],
            )


def _names(lists: str | Path | None) -> dict[str, dict[str, str]]:
    """Return, by part, the argument of the data set that names its images."""
    if lists is None:
        return {split: {'split': split} for split in _SPLITS}
    files = {split: Path(lists).absolute() / f'{split}.txt' for split in _SPLITS}
    found = {split: {'ann_file': str(file)} for split, file in files.items() if file.is_file()}
    if not found:
        raise FileNotFoundError(f'{lists}: expected train.txt, val.txt or test.txt in this folder')
    return found


def _images_of(layout: Layout, src: Path) -> list[str]:
    whole = layout.dataset(data_root=str(src), lazy_init=True, **layout.download)
    return [record['img_path'] for record in whole.load_data_list()]


def _require_images(layout: Layout, src: Path) -> None:
    folder = src / layout.download['data_prefix']['img_path']
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no {folder}: expected {layout.description}')
    if not _images_of(layout, src):
        raise DataError(f'{folder} holds no image of this name: expected {layout.description}')


def _note_unlisted(layout: Layout, src: Path, pairs: Sequence[_Pair], report: Report) -> None:
    listed = {os.path.normpath(pair.image) for pair in pairs}
    for path in _images_of(layout, src):
        if os.path.normpath(path) not in listed:
            report.add('image that no list names: left out', path)


def _without_missing(pairs: Sequence[_Pair], report: Report) -> list[_Pair]:
    """Return the pairs of which both files are there; report the others, all of them by name."""
    for split in _SPLITS:
        for kind in ('image', 'mask'):
            names = [
                pair.name
                for pair in pairs
                if pair.split == split and not os.path.isfile(getattr(pair, kind))
            ]
            if names:
                shown = f'{split}: {", ".join(names)}'
                report.add(f'{kind} missing in the download', shown, True, len(names))
    return [pair for pair in pairs if os.path.isfile(pair.image) and os.path.isfile(pair.mask)]


def _convert(pair: _Pair, copy: bool, official_hw: tuple[int, int]) -> list[_Fault]:
    """Write one pair unless there is something fatal; return what is worth telling."""
    title = 'image broken'
    try:
        header = read_header(pair.image)
        # OpenCV knows formats that Pillow does not, and says what is wrong with the others.
        size_hw = header.size_hw if header is not None else read_image(pair.image).shape[:2]
        title = BROKEN
        label = decode_label(read_content(pair.mask), pair.mask, raw=True)
        title = OTHER_SIZE
        check_label_size(pair.mask, label.shape[:2], pair.image, size_hw)
        title = NO_IDS
        ids, unknown = class_ids(label, pair.mask, pair.rule)
    except DataError as error:
        return [(title, str(error), True, 1)]
    _sweep(pair)
    _write_label(pair.new_label, ids)
    _place_image(pair.image, pair.new_image, copy)
    faults: list[_Fault] = []
    if size_hw != official_hw:
        title = f'image of another size than the original, (h, w) = {official_hw}'
        faults.append((title, f'{pair.image}: {size_hw}', False, 1))
    if unknown:
        title = f'mask with colours of no class: they become class {pair.rule.unknown_id}'
        faults.append((title, f'{pair.mask}: {unknown} pixels', False, 1))
    return faults


def _sweep(pair: _Pair) -> None:
    """Remove what a killed run has left half written."""
    for path in map(Path, (pair.new_image, pair.new_label)):
        for left in path.parent.glob(f'{glob.escape(path.name)}.tmp-*'):
            left.unlink()


def _write_label(path: str, ids: Any) -> None:
    _, coded = cv2.imencode('.png', ids)
    with write_atomically(path) as file:
        file.write(coded.tobytes())


def _place_image(source: str, target: str, copy: bool) -> None:
    if os.path.exists(target):
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        temporary = f'{target}.tmp-{os.getpid()}'
        os.symlink(os.path.realpath(source), temporary)
        os.replace(temporary, target)
        return
    Path(target).unlink(missing_ok=True)  # a link to nowhere, which the copy would follow
    with open(source, 'rb') as old, write_atomically(target) as new:
        shutil.copyfileobj(old, new)
