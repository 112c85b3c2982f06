"""Turn labels of YOLO, Pascal VOC, LabelMe and CVAT into one annotation file in COCO format."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.datasets.coco_checks import Expectation, check_coco
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_header import read_header
from isda_suite.datasets.report import Report
from isda_suite.engine.errors import ConfigError

from .readers import (
    LabelFile,
    LabelledObject,
    fill,
    read_labelme,
    read_voc,
    read_yolo,
    require_supervision,
)

FORMATS = ('yolo', 'voc', 'labelme', 'cvat')
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    Args:
        file: The annotation file.
        classes: Names, in the order of the labels.
        report: Of the check of what was written; ``fatal`` if training on it would go wrong.
        counts: Images, objects, objects with a box alone.
    """

    file: Path
    classes: tuple[str, ...]
    report: Report
    counts: dict[str, int] = field(default_factory=dict)


def import_labels(
    kind: str,
    source: str | Path,
    target: str | Path,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    boxes_as_masks: bool = False,
    progress: bool = True,
) -> ImportResult:
    """Read labels and write an annotation file, whole or not at all.

    Args:
        kind: One of :data:`FORMATS`.
        source: Folder of label files; of CVAT its ``annotations.xml``.
        target: The ``.json`` to write.
        images: Folder of the images, which names in the file will be relative to. None looks at
            the usual place: ``images`` beside ``labels`` (YOLO), ``JPEGImages`` beside
            ``Annotations`` (VOC), ``images`` beside the XML (CVAT), else ``source`` itself.
        classes: File with the names of the classes in their order: one a line, or the ``names`` of
            a ``.yaml``. YOLO needs it and finds ``data.yaml`` and ``classes.txt`` beside the
            labels; the others sort the names that occur.
        boxes_as_masks: Give objects that have a box alone the box as their mask; without it they
            have none, and a training of masks leaves them out.
        progress: Show a progress bar.

    Returns:
        Names of the classes, and the report of the data check on the written file.

    Raises:
        ConfigError: if an argument is wrong or the library is missing.
        DataError: naming the file and the entry that is wrong.
    """
    from tqdm import tqdm

    if kind not in FORMATS:
        raise ConfigError(f'labels of {kind!r} are not known, expected {", ".join(FORMATS)}')
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if target.suffix != '.json':
        raise ConfigError(f'{target}: the annotation file must end with .json')
    require_supervision()
    if not source.exists():
        raise ConfigError(f'{source} does not exist (working directory {Path.cwd()})')
    wanted = _class_names(kind, source, classes)
    files = list(_read(kind, source, wanted or ()))
    names = wanted or tuple(sorted({label for one in files for label in one.labels}))
    if not names:
        raise DataError(f'{source}: no label names a class')
    folder = _image_folder(kind, source, images)
    index = _ImageIndex(folder)
    content: dict[str, Any] = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(names, 1)],
    }
    for one in tqdm(files, desc=f'reading labels of {kind}', disable=not progress):
        _add(content, one, index, names, boxes_as_masks)
    boxes = sum('segmentation' not in one for one in content['annotations'])
    with write_atomically(target, text=True) as stream:
        json.dump(content, stream)
    report = check_coco(content, Expectation(str(target), names, str(folder), str(folder)))
    counts = {
        'images': len(content['images']),
        'objects': len(content['annotations']),
        'objects with a box alone': boxes,
        'images without labels, left out': len(index.unused()),
    }
    return ImportResult(target, names, report, counts)


def _read(kind: str, source: Path, classes: tuple[str, ...]) -> Iterator[LabelFile]:
    if kind == 'cvat':
        from .cvat import read_cvat

        if not source.is_file():
            raise ConfigError(f'{source}: labels of cvat are one file, annotations.xml')
        return read_cvat(source)
    if not source.is_dir():
        raise ConfigError(f'{source} is no folder; labels of {kind} are a folder of files')
    if kind == 'yolo':
        return read_yolo(source, classes)
    return read_voc(source) if kind == 'voc' else read_labelme(source)


def _image_folder(kind: str, source: Path, images: str | Path | None) -> Path:
    if images is not None:
        folder = Path(images).expanduser()
        if not folder.is_dir():
            raise ConfigError(f'the folder of images {folder} does not exist')
        return folder
    guesses = [source if source.is_dir() else source.parent]
    if kind == 'yolo' and 'labels' in source.parts:
        at = len(source.parts) - 1 - source.parts[::-1].index('labels')
        guesses.insert(0, Path(*source.parts[:at], 'images', *source.parts[at + 1 :]))
    elif kind == 'voc':
        guesses.insert(0, source.parent / 'JPEGImages')
    elif kind == 'cvat':
        guesses.insert(0, source.parent / 'images')
    return next(folder for folder in guesses if folder.is_dir())


def _class_names(kind: str, source: Path, file: str | Path | None) -> tuple[str, ...] | None:
    """Return the names that are stated; None if they are to be taken from the labels."""
    if file is None and kind != 'yolo':
        return None
    if file is None:
        places = [source, *list(source.parents)[:3]]
        beside = [place / name for place in places for name in _CLASS_FILES]
        found = next((one for one in beside if one.is_file()), None)
        if found is None:
            raise ConfigError(
                f'labels of yolo hold numbers; no {" or ".join(_CLASS_FILES)} with their names is '
                f'in {source} or above it: give one with --classes'
            )
        file = found
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f'the file of class names {path} does not exist')
    text = path.read_text(encoding='utf-8')
    names = _yaml_names(text, path) if path.suffix in ('.yaml', '.yml') else text.splitlines()
    stripped = tuple(str(name).strip() for name in names if str(name).strip())
    if not stripped or len(set(stripped)) != len(stripped):
        raise ConfigError(f'{path}: expected names of classes, each once, found {list(stripped)}')
    return stripped


_CLASS_FILES = ('data.yaml', 'dataset.yaml', 'classes.txt', 'obj.names')


def _yaml_names(text: str, path: Path) -> list[str]:
    import yaml  # type: ignore[import-untyped]  # no stubs in our requirements

    try:
        names = (yaml.safe_load(text) or {}).get('names')
    except (yaml.YAMLError, AttributeError, RecursionError) as error:
        raise ConfigError(f'{path} is not a yaml table of plain data: {error}') from error
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        return [names[number] for number in range(len(names))]
    if isinstance(names, list):
        return names
    raise ConfigError(f'{path}: names must be a list, or a table by 0, 1, 2, …; found {names!r}')


class _ImageIndex:
    """The images of a folder by the names that label files call them by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(p for p in folder.rglob('*') if p.suffix.lower() in _SUFFIXES)
        self._by_name: dict[str, list[str]] = {}
        self._left = {file.relative_to(folder).as_posix() for file in files}
        for name in sorted(self._left):
            path = Path(name)
            for key in {name, path.with_suffix('').as_posix(), path.name, path.stem}:
                self._by_name.setdefault(key, []).append(name)

    def find(self, name: str, source: str) -> str:
        """Return the path of an image below the folder."""
        path = Path(name)
        for key in (name, path.with_suffix('').as_posix(), path.name, path.stem):
            found = self._by_name.get(key, [])
            if len(found) == 1:
                self._left.discard(found[0])
                return found[0]
            if found:
                raise DataError(f'{source}: {name} may be any of {", ".join(found[:5])}')
        raise DataError(
            f'{source}: there is no image {name} in {self.folder}; name its folder with --images'
        )

    def unused(self) -> set[str]:
        """Return the images that no labels were for."""
        return self._left


def _add(
    content: dict[str, Any],
    labels: LabelFile,
    index: _ImageIndex,
    names: tuple[str, ...],
    boxes_as_masks: bool,
) -> None:
    """Add an image and its objects."""
    name = index.find(labels.image_name, labels.source)
    header = read_header(str(index.folder / name))
    if header is None:
        raise DataError(f'{index.folder / name} is no image')
    height, width = header.size_hw
    number = len(content['images']) + 1
    content['images'].append({'id': number, 'file_name': name, 'height': height, 'width': width})
    for one in labels.read((height, width)):
        if one.label not in names:
            raise DataError(
                f'{labels.source}: the class {one.label!r} is none of {", ".join(names)}'
            )
        content['annotations'].append(
            {
                'id': len(content['annotations']) + 1,
                'image_id': number,
                'category_id': names.index(one.label) + 1,
                'iscrowd': 0,
                **_shape(one, (height, width), boxes_as_masks),
            }
        )


def _shape(one: LabelledObject, size: tuple[int, int], boxes_as_masks: bool) -> dict[str, Any]:
    """Write box, area and mask of an object as COCO does; a box is cut at the image's edge."""
    x1, x2 = np.clip([one.box[0], one.box[2]], 0, size[1]).tolist()
    y1, y2 = np.clip([one.box[1], one.box[3]], 0, size[0]).tolist()
    shape: dict[str, Any] = {'bbox': [x1, y1, x2 - x1, y2 - y1], 'area': (x2 - x1) * (y2 - y1)}
    if one.polygons:
        shape['segmentation'] = [outline.ravel().tolist() for outline in one.polygons]
        shape['area'] = int(fill(one.polygons, size).sum())
    elif one.mask is not None:
        from pycocotools import mask as coco_masks

        code = coco_masks.encode(np.asfortranarray(one.mask.astype(np.uint8)))
        shape['segmentation'] = {'size': list(code['size']), 'counts': code['counts'].decode()}
        shape['area'] = int(one.mask.sum())
    elif boxes_as_masks:
        shape['segmentation'] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    return shape


def describe(result: ImportResult) -> str:
    """Write what was imported, and what the check found."""
    counts: Iterable[str] = (f'{value} {name}' for name, value in result.counts.items() if value)
    names = ', '.join(repr(name) for name in result.classes)
    trailing = ',' if len(result.classes) == 1 else ''
    return '\n'.join(
        [
            result.report.table(),
            f'wrote {result.file}: {", ".join(counts)}',
            f'for the configuration: metainfo = dict(classes=({names}{trailing}))',
        ]
    )
