"""What goes wrong in a results file: errors by kind, with the annotations it belongs to."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isda_suite.apis.videos.results_file import check_annotations, check_results, read_results
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.datasets.annotation_file import read_annotation_file
from isda_suite.datasets.coco_instance import CocoInstanceDataset
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.lvis import LVISInstanceDataset, is_lvis
from isda_suite.datasets.report import Report
from isda_suite.datasets.youtube_vis_file import read_youtube_vis
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.detection_analysis import DetectionAnalysis
from isda_suite.visualization.html_page import page

from .instances import AnnotatedImages, InstanceCollector
from .parts import Section, analysis_of
from .videos import VideoCollector

Json = dict[str, Any]
KINDS = ('segm', 'bbox')
_KEYS = {'segm': 'segmentation', 'bbox': 'bbox'}


@dataclass(frozen=True)
class ResultsAnalysis:
    """What was found.

    Args:
        analysis: Precision, recall and errors.
        classes: Names of the classes.
        sections: Makes those of a report, which takes longer.
    """

    analysis: DetectionAnalysis
    classes: list[str]
    sections: Callable[[], list[Section]]

    def text(self) -> str:
        """Return the errors as a table, in points of AP at IoU 0.5."""
        found = self.analysis
        whole, at_50, at_75 = (
            100 * _mean(found.average_precision(value)) for value in (None, 0.5, 0.75)
        )
        lines = [
            f'AP {whole:.2f}, at IoU 0.5 {at_50:.2f}, at IoU 0.75 {at_75:.2f}; '
            f'{int(found.num_annotated.sum())} objects annotated, '
            f'{int(found.num_detected.sum())} detected',
            f'{"error":<16}{"how many":>10}{"costs AP 50":>13}',
        ]
        for name, cost in found.error_costs.items():
            count = found.error_counts.get(name, '')
            lines.append(f'{name:<16}{count:>10}{100 * cost:>13.2f}')
        return '\n'.join(lines)


def analyse_results(
    results: str | Path,
    annotations: str | Path,
    kind: str | None = None,
    images: str | Path | None = None,
    score_thr: float = 0.3,
    num_shown: int = 4,
) -> ResultsAnalysis:
    """Name what is wrong with detections, and say what it costs.

    Args:
        results: COCO's list of results, a results file of YouTube-VIS (also zipped), or what
            ``tools/test.py --out`` wrote as json.
        annotations: Annotation file of COCO, LVIS v1 or YouTube-VIS.
        kind: Compare masks (``'segm'``) or boxes (``'bbox'``); None takes masks where there are
            some. Videos have masks only.
        images: Folder of the images, of LVIS the one that holds ``val2017``; without one no
            pictures are drawn.
        score_thr: Detections from this score on are drawn and count as confusions.
        num_shown: How many of the best images to draw, and of the worst.

    Raises:
        FileNotFoundError: if a file is missing.
        ConfigError: for an unknown kind, or a folder of images that is not there.
        DataError: if a file cannot be used.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f'kind must be one of {", ".join(KINDS)}, got {kind!r}')
    if images is not None and not Path(images).is_dir():
        raise ConfigError(f'images: {images} is no folder (seen from {Path.cwd()})')
    entries = read_results(results)
    keep_nothing = {'annotations': lambda annotation: None}
    kinds = 'COCO, LVIS or YouTube-VIS'
    head = read_annotation_file(annotations, kinds, ('categories',), keep_nothing)
    name, shown = str(results), 0 if images is None else num_shown
    if 'videos' in head and not head.get('images'):
        if kind == 'bbox':
            raise ConfigError(f'kind bbox: {annotations} is of videos, which are compared by masks')
        return _analyse_videos(entries, annotations, images, score_thr, shown, name)
    lvis = is_lvis(head)
    return _analyse_images(entries, annotations, lvis, kind, images, score_thr, shown, name)


def write_analysis(found: ResultsAnalysis, path: str | Path, title: str) -> None:
    """Write a report of what was found, whole or not at all."""
    with write_atomically(path, text=True) as file:
        file.write(page(f'{title}: errors', '', found.sections()))


def _analyse_images(
    entries: list[Any],
    annotations: str | Path,
    lvis: bool,
    kind: str | None,
    images: str | Path | None,
    score_thr: float,
    num_shown: int,
    name: str,
) -> ResultsAnalysis:
    with quiet_imports():
        reader = LVISInstanceDataset if lvis else CocoInstanceDataset
        dataset = reader(
            ann_file=str(Path(annotations).absolute()),
            data_prefix=dict(img=str(images or '')),
            test_mode=True,
            pipeline=[],
        )
    classes = [str(one) for one in dataset.metainfo['classes']]
    infos = {info['img_id']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    rows = _rows_of_images(entries, infos, dataset.cat2label, name)
    if kind is None:
        kind = 'segm' if all('segmentation' in row for row in rows) else 'bbox'
    lacking = sum(_KEYS[kind] not in row for row in rows)
    if lacking:
        raise DataError(f'{name}: {lacking} of {len(rows)} results have no {_KEYS[kind]}')
    by_image: dict[Any, list[Json]] = defaultdict(list)
    for row in rows:
        by_image[row['image_id']].append(row)
    collector = InstanceCollector(AnnotatedImages(dataset), classes, num_shown, score_thr)
    for img_id, info in infos.items():
        size_hw = info['height'], info['width']
        sample = dict(img_id=img_id, img_path=info['img_path'], ori_shape=size_hw)
        collector.add(sample, _record(by_image[img_id], kind))
    payloads = [collector.payload()]
    analysis = analysis_of(collector.judged_of(payloads), len(classes))
    return ResultsAnalysis(analysis, classes, partial(collector.sections, payloads))


def _rows_of_images(
    entries: list[Any], infos: dict[Any, Json], labels: dict[Any, int], name: str
) -> list[Json]:
    """Return results as COCO lists them, with ``label``; of ``tools/test.py --out`` too.

    Raises:
        DataError: with everything that is wrong.
    """
    report = Report(name)
    rows: list[Json] = []
    for index, entry in enumerate(entries):
        place = f'results[{index}]'
        if not isinstance(entry, dict):
            report.add('result that is no object', place, fatal=True)
        elif 'instances' in entry:
            rows += [{**one, 'image_id': entry.get('img_id')} for one in _of_test(entry)]
        elif {'image_id', 'category_id', 'score'} <= entry.keys():
            label = labels.get(entry['category_id'])
            if label is None:
                what = f'{place}: {entry["category_id"]!r}'
                report.add('result of a category that the annotation file lacks', what)
            else:
                rows.append({**entry, 'label': label})
        elif 'sem_seg' in entry:
            what = 'class map: this is for instances and tracks; the report of test judges these'
            report.add(what, place, fatal=True)
        else:
            what = f'{place} has {sorted(entry)[:6]}'
            report.add('result without image_id, category_id and score', what, fatal=True)
    for row in rows:
        if row['image_id'] not in infos:
            what = f'image_id {row["image_id"]!r}'
            report.add('result of an image that the annotation file lacks', what, fatal=True)
        elif not isinstance(row['score'], int | float) or not math.isfinite(row['score']):
            report.add('score that is no finite number', f'{row["score"]!r}', fatal=True)
        elif not 0 <= row['label'] < len(labels):
            what = f'{row["label"]} of {len(labels)}'
            report.add('label that the annotation file has no class for', what, fatal=True)
        elif not _fits(row, infos[row['image_id']]):
            what = f'image_id {row["image_id"]!r}'
            report.add('mask or box that does not fit its image', what, fatal=True)
    report.raise_if_fatal()
    return rows


def _of_test(entry: Json) -> list[Json]:
    """Return the instances that ``tools/test.py --out`` wrote, with boxes as COCO has them."""
    rows = []
    for one in entry['instances']:
        row = dict(one)
        if 'bbox' in row:
            left, top, right, bottom = row['bbox']
            row['bbox'] = [left, top, right - left, bottom - top]
        rows.append(row)
    return rows


def _fits(row: Json, info: Json) -> bool:
    mask = row.get('segmentation')
    size_hw = [info['height'], info['width']]
    if mask is not None and not (isinstance(mask, dict) and list(mask.get('size', ())) == size_hw):
        return False
    box = row.get('bbox', [0.0] * 4)
    return len(box) == 4 and all(isinstance(side, int | float) for side in box)


def _record(rows: Sequence[Json], kind: str) -> Json:
    record: Json = {
        'scores': np.array([row['score'] for row in rows], dtype=float),
        'labels': np.array([row['label'] for row in rows], dtype=np.int64),
    }
    if kind == 'segm':
        return record | {'masks': [_compressed(row['segmentation']) for row in rows]}
    boxes = np.array([row['bbox'] for row in rows], dtype=float).reshape(-1, 4)
    return record | {'bboxes': np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)}


def _compressed(mask: Json) -> Json:
    if not isinstance(mask['counts'], list):
        return mask
    from pycocotools import mask as coco_mask

    return dict(coco_mask.frPyObjects(mask, *mask['size']))


def _analyse_videos(
    entries: list[Any],
    annotations: str | Path,
    images: str | Path | None,
    score_thr: float,
    num_shown: int,
    name: str,
) -> ResultsAnalysis:
    content = read_youtube_vis(annotations)
    check_annotations(content, str(annotations))
    categories = content['categories']
    classes = [str(one['name']) for one in categories]
    labels = {one['id']: index for index, one in enumerate(categories)}
    entries = _rows_of_videos(entries, [one['id'] for one in categories])
    check_results(entries, content, name)
    by_video: dict[Any, list[Json]] = defaultdict(list)
    for entry in entries:
        if entry['category_id'] in labels:
            by_video[entry['video_id']].append({**entry, 'label': labels[entry['category_id']]})
    collector = VideoCollector(annotations, classes, num_shown, score_thr)
    records = [
        {'video_id': video['id'], 'tracks': by_video[video['id']]} for video in content['videos']
    ]
    frames = {}
    if images is not None:
        for video in content['videos']:
            paths = [str(Path(images) / one) for one in video['file_names']]
            frames[video['id']] = dict(enumerate(paths))
    payloads = [((records, set[Any]()), frames)]
    judged = [one for one, _ in collector.judged_of(payloads)]
    analysis = analysis_of(judged, len(classes))
    return ResultsAnalysis(analysis, classes, partial(collector.sections, payloads))


def _rows_of_videos(entries: list[Any], category_ids: list[Any]) -> list[Any]:
    """Return results as YouTube-VIS lists them; of ``tools/test.py --out`` too."""
    rows = []
    for entry in entries:
        if not isinstance(entry, dict) or 'tracks' not in entry:
            rows.append(entry)
            continue
        for track in entry['tracks']:
            label = track['label']
            known = 0 <= label < len(category_ids)
            rows.append(
                {
                    'video_id': entry['video_id'],
                    'category_id': category_ids[label] if known else 0,
                    'score': track['score'],
                    'segmentations': track['segmentations'],
                }
            )
    return rows


def _mean(values: Any) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')
