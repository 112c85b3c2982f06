"""Check data sets named by a config: annotations in seconds, image bytes on request.

Every format has its own module (``coco_checks``, ``segmentation_checks``); :data:`CHECKS` says
which data set class it serves. All report through :class:`~isda_suite.datasets.report.Report`.
"""

import importlib.util
import os.path
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .annotation_file import read_annotation_file
from .coco_checks import Expectation, check_coco
from .coco_entries import read_entries
from .coco_file import category_problems, class_names
from .errors import DataError
from .image_checks import check_images, frame_place
from .image_file import missing_image
from .lvis import with_file_names
from .report import Report
from .segmentation_checks import check_segmentation
from .youtube_vis_file import frames_of
from .youtube_vis_names import find_annotation_file

_NUM_PROBED_IMAGES = 50
DataConfig = dict[str, Any]


def _check_coco_instances(dataset: Any) -> Report:
    content, report = dataset.check()
    _probe_images(content['images'], _image_folder(dataset), report)
    return report


def _check_stock_coco(dataset: Any) -> Report:
    """Check for mmdet's own reader, which takes the categories in the json's order."""
    content = read_entries(dataset.ann_file)
    classes = tuple(dataset.metainfo['classes'])
    report = check_coco(content, _expectation_of(dataset, classes))
    in_file = tuple(str(one.get('name')) for one in content['categories'])
    if set(classes) <= set(in_file) and classes != tuple(n for n in in_file if n in classes):
        report.add(
            'mmdet takes the categories in the order of the json, so labels would be swapped: use '
            'isda_suite.CocoInstanceDataset, or for videos isda_suite.YouTubeVISInstanceDataset '
            'with the published file; they map them by name',
            f'json: {in_file[:5]}, config: {classes[:5]}',
            fatal=True,
        )
    _probe_images(content['images'], _image_folder(dataset), report)
    return report


def _check_youtube_vis(dataset: Any) -> Report:
    content, report = dataset.check()
    frames = list(frames_of(content['videos']))
    _probe_images(frames, _image_folder(dataset), report)
    return report


def _check_lvis(dataset: Any) -> Report:
    """Check LVIS: images are named by the end of their address, labels follow the ids."""
    content = with_file_names(read_entries(dataset.ann_file))
    report = check_coco(content, _expectation_of(dataset, None))
    found, known = len(content['categories']), len(dataset.metainfo['classes'])
    if found != known:
        report.add(f'{found} categories in the json, {known} in the data set class', fatal=True)
    if importlib.util.find_spec('lvis') is None:
        report.add('mmdet reads LVIS with the package lvis: pip install lvis', fatal=True)
    _probe_images(content['images'], _image_folder(dataset), report)
    return report


def _image_folder(dataset: Any) -> str:
    # mmdet's readers of videos have a key of their own.
    prefix = dataset.data_prefix
    return str(prefix.get('img') or prefix.get('img_path') or '')


def _expectation_of(dataset: Any, classes: tuple[str, ...] | None) -> Expectation:
    filters = dataset.filter_cfg or {}
    return Expectation(
        ann_file=str(dataset.ann_file),
        classes=classes,
        root=str(dataset.data_root or ''),
        img_prefix=_image_folder(dataset),
        needs_annotations=not dataset.test_mode,
        filter_empty=bool(filters.get('filter_empty_gt')) and not dataset.test_mode,
        min_size=0 if dataset.test_mode else int(filters.get('min_size', 0)),
    )


#: Name of a data set class (or of a base of it) -> its check of the annotations.
CHECKS: dict[str, Callable[[Any], Report]] = {
    'CocoInstanceDataset': _check_coco_instances,
    'LVISV05Dataset': _check_lvis,
    'CocoDataset': _check_stock_coco,
    'BaseSegDataset': check_segmentation,
    'YouTubeVISInstanceDataset': _check_youtube_vis,
    'YouTubeVISDataset': _check_stock_coco,
}


def _probe_images(images: list[Any], prefix: str, report: Report) -> None:
    """Look for some images, spread over the file: a wrong folder is found at once."""
    named = [image for image in images if isinstance(image.get('file_name'), str)]
    step = max(1, len(named) // _NUM_PROBED_IMAGES)
    for image in named[::step]:
        path = os.path.join(prefix, image['file_name'])
        if '://' not in path and not os.path.isfile(path):
            report.add('image missing', f'{frame_place(image)}{missing_image(path)}', fatal=True)


def _leaves(dataset_cfg: DataConfig) -> list[DataConfig]:
    """Return the data sets inside wrappers such as ConcatDataset and ClassBalancedDataset."""
    inner = dataset_cfg.get('datasets') or dataset_cfg.get('dataset')
    if inner is None:
        return [dataset_cfg]
    return [
        leaf for one in (inner if isinstance(inner, list) else [inner]) for leaf in _leaves(one)
    ]


def _build(dataset_cfg: DataConfig) -> Any:
    from mmengine.registry import DefaultScope

    from isda_suite.registry import DATASETS

    # Unprefixed names are mmdet's unless a config has set another scope.
    scope = {} if DefaultScope.get_current_instance() else {'_scope_': 'mmdet'}
    try:
        return DATASETS.build({**scope, **dataset_cfg, 'lazy_init': True, 'pipeline': []})
    except DataError:
        raise
    except (ValueError, AssertionError) as error:
        # Libraries refuse a class that they do not know, or a missing one, in this way.
        raise DataError(f'the data set {dataset_cfg["type"]} cannot be made: {error}') from error


def inspect_dataset(
    dataset_cfg: DataConfig, images: bool = False, progress: bool = False
) -> list[Report]:
    """Check the data set of a config, and the ones inside if it is a wrapper.

    Args:
        dataset_cfg: ``dataset`` of a data loader in a config.
        images: Whether to decode every image too.
        progress: Whether to show a progress bar over the images.

    Returns:
        One report a data set.

    Raises:
        FileNotFoundError: if an annotation file is missing.
        DataError: if an annotation file cannot be read at all.
    """
    reports = []
    for leaf in _leaves(dict(dataset_cfg)):
        dataset = _build(leaf)
        names = [base.__name__ for base in type(dataset).__mro__]
        check = next((CHECKS[name] for name in names if name in CHECKS), None)
        if check is None:
            report = Report(str(getattr(dataset, 'ann_file', '') or names[0]))
            report.add(f'no check for data sets of type {names[0]}')
        else:
            report = check(dataset)
            if images and not report.fatal:
                dataset.full_init()
                report.merge(check_images(dataset, progress))
        reports.append(report)
    return reports


def check_annotations(dataset_cfg: DataConfig) -> list[Report]:
    """Check the annotations of a data set before training starts.

    Args:
        dataset_cfg: ``dataset`` of a data loader in a config.

    Returns:
        The reports, none of them fatal.

    Raises:
        FileNotFoundError: if an annotation file is missing.
        DataError: if something is wrong; lists everything that is.
    """
    reports = inspect_dataset(dataset_cfg)
    for report in reports:
        report.raise_if_fatal()
    return reports


def annotation_path(dataset_cfg: DataConfig) -> Path:
    """Return where the annotation file of a data set is, by its configuration alone.

    Args:
        dataset_cfg: Configuration of a data set with ``ann_file``; that of a video data set may
            have another official name of its split.
    """
    root, name = str(dataset_cfg.get('data_root') or ''), str(dataset_cfg.get('ann_file') or '')
    if 'YouTubeVIS' in str(dataset_cfg.get('type')):
        name = find_annotation_file(root, name)
    return Path(os.path.join(root, name))


def category_names(ann_file: str | Path) -> list[str]:
    """Return the classes a COCO or YouTube-VIS file has when a config names none.

    Args:
        ann_file: The file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is no such json, or a category has no id or name.
    """
    keep_nothing = {'annotations': lambda annotation: None}
    content = read_annotation_file(ann_file, 'COCO or YouTube-VIS', ('categories',), keep_nothing)
    categories = content['categories']
    problems = category_problems(categories, None)
    if problems:
        raise DataError('\n'.join([f'{ann_file}: classes do not fit', *problems[:5]]))
    return list(class_names(categories))
