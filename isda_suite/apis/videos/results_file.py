"""Results files of video instance segmentation: written whole, read and checked."""

import json
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.datasets.coco_checks import Expectation
from isda_suite.datasets.coco_file import rle_length
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.report import Report
from isda_suite.datasets.youtube_vis_checks import check_youtube_vis

Json = dict[str, Any]
#: The name evaluation servers look for.
RESULTS_NAME = 'results.json'
_KEYS = ('video_id', 'category_id', 'score', 'segmentations')


def write_results(results: Sequence[Json], prefix: str | Path) -> tuple[Path, Path]:
    """Write results as YouTube-VIS wants them, each file whole or not at all.

    Args:
        results: ``video_id``, ``score``, ``category_id`` and ``segmentations`` (an RLE or None for
            each frame) of every track.
        prefix: The files are ``PREFIX.json`` and ``PREFIX.zip``.

    Returns:
        The json, and the zip to hand in: it holds the same as ``results.json``.
    """
    plain, packed = (Path(f'{prefix}{suffix}') for suffix in ('.json', '.zip'))
    text = json.dumps(list(results), allow_nan=False)
    with write_atomically(plain, text=True) as file:
        file.write(text)
    with write_atomically(packed) as file, zipfile.ZipFile(file, 'w') as archive:
        # Without a time, equal results make equal files.
        entry = zipfile.ZipInfo(RESULTS_NAME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, text)
    return plain, packed


def read_results(path: str | Path) -> list[Json]:
    """Read a results file, or the ``results.json`` of a zip.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it holds no list.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no results file {path} (seen from {Path.cwd()})')
    try:
        content = json.loads(_from_zip(path) if zipfile.is_zipfile(path) else path.read_bytes())
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(f'{path} is not a whole json or zip file: {error}') from error
    if not isinstance(content, list):
        looks = isinstance(content, dict) and 'annotations' in content
        found = 'annotations, not results' if looks else type(content).__name__
        raise DataError(
            f'{path}: expected a list of results, each with category_id, score and masks; it '
            f'holds {found}'
        )
    return content


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        if RESULTS_NAME not in archive.namelist():
            raise DataError(
                f'{path}: no {RESULTS_NAME} at the top of the zip, which holds '
                f'{archive.namelist()[:5]}'
            )
        return archive.read(RESULTS_NAME)


def check_annotations(content: Json, name: str) -> None:
    """Refuse an annotation file that nothing can be compared with.

    Args:
        content: The file as :func:`~isda_suite.datasets.youtube_vis_file.read_youtube_vis` gives
            it.
        name: Of the file, for messages.

    Raises:
        DataError: without annotations, or with everything that is wrong.
    """
    if not content.get('annotations'):
        raise DataError(
            f'{name} holds no annotations, so nothing can be evaluated: those of the official '
            'validation and test sets are not published. Write the files for the evaluation server '
            '(--format-only, or format_only=True of the metric), or evaluate on a part of the '
            'training set that was held out'
        )
    check_youtube_vis(content, Expectation(name, None, '', '', allow_outside=True)).raise_if_fatal()


def check_results(results: Sequence[Any], content: Json, name: str) -> Counter[Any]:
    """Refuse results that do not belong to an annotation file.

    Args:
        results: What was read of a results file.
        content: The annotation file.
        name: Of the results file, for messages.

    Returns:
        Categories that the annotation file does not have, and how many results name them; they
        never count.

    Raises:
        DataError: with everything that is wrong: unknown videos, lists that are not as long as
            their video, scores that are no numbers, masks that do not fit.
    """
    report = Report(name)
    videos = {video['id']: video for video in content['videos']}
    categories = {category['id'] for category in content['categories']}
    unknown: Counter[Any] = Counter()
    for index, result in enumerate(results):
        place = f'results[{index}]'
        missing = [key for key in _KEYS if not isinstance(result, dict) or key not in result]
        if missing:
            report.add(f'result without {", ".join(missing)}', place, fatal=True)
            continue
        if not _is_id(result['video_id']) or result['video_id'] not in videos:
            report.add(
                'result of a video that the annotation file does not have',
                f'{place}: video id {result["video_id"]!r}',
                fatal=True,
            )
            continue
        if not _is_id(result['category_id']):
            what = f'{place}: {result["category_id"]!r}'
            report.add('category_id that is no number', what, fatal=True)
        elif result['category_id'] not in categories:
            unknown[result['category_id']] += 1
        _check_result(result, videos[result['video_id']], place, report)
    report.raise_if_fatal()
    return unknown


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str)


def _check_result(result: Json, video: Json, place: str, report: Report) -> None:
    place = f'{place}, video id {video["id"]}'
    score = result['score']
    if not isinstance(score, int | float) or not math.isfinite(score):
        report.add('score that is no finite number', f'{place}: {score!r}', fatal=True)
    masks, length = result['segmentations'], len(video['file_names']) or video['length']
    found = len(masks) if isinstance(masks, list) else 'no list'
    if found != length:
        report.add(
            'segmentations that are not as many as the frames of the video (null where there is '
            'no mask)',
            f'{place}: {found}, the video has {length}',
            fatal=True,
        )
        return
    for frame, mask in enumerate(masks):
        problem = _mask_problem(mask, [video['height'], video['width']])
        if problem:
            report.add(
                'mask that does not fit its video', f'{place}, frame {frame}: {problem}', fatal=True
            )


def _mask_problem(mask: Any, size_hw: list[int]) -> str:
    if mask is None:
        return ''
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), str | bytes | list):
        return f'no RLE, but {str(mask)[:40]!r}'
    if list(mask.get('size') or ()) != size_hw:
        return f'size {mask.get("size")}, the video is {size_hw}'
    try:
        pixels = rle_length(mask['counts'])
    except (TypeError, ValueError) as error:
        return str(error)
    area = size_hw[0] * size_hw[1]
    return '' if pixels == area else f'its runs cover {pixels} pixels of {area}'
