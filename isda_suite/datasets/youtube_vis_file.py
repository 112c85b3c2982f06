"""What a YouTube-VIS annotation file holds: reading it, and what one frame of a track is worth.

``videos`` name their frames; an annotation is a track: one object in one video, with a list entry
for each frame in ``segmentations``, ``bboxes`` and ``areas``, ``null`` where the object is absent.
Frames are counted from 0. The reader and the checks share these functions, so they cannot disagree
about what is used.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .annotation_file import Json, read_annotation_file
from .coco_file import Verdict, judge, rle_length, with_box_and_area
from .errors import DataError

#: Lists of a track with an entry for each frame, and what an entry is called in COCO.
PER_FRAME = {'segmentations': 'segmentation', 'bboxes': 'bbox', 'areas': 'area'}


def read_youtube_vis(path: str | Path) -> Json:
    """Read a YouTube-VIS annotation file in the form its owners publish.

    An RLE whose runs cover its own size comes back compressed, with ``counts`` in bytes: lists of
    run lengths take many times the memory.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a YouTube-VIS json.
    """
    lists = ('videos', 'categories')
    content = read_annotation_file(path, 'YouTube-VIS', lists, {'annotations': _with_whole_rles})
    if content.get('images'):
        raise DataError(
            f'{path} has a list "images", like COCO and the files mmdet converts: name the '
            'YouTube-VIS file it was made from'
        )
    return content


def _with_whole_rles(track: Json) -> Json:
    masks = track.get('segmentations')
    if isinstance(masks, list):
        track['segmentations'] = [_compress_if_whole(mask) for mask in masks]
    return track


def _compress_if_whole(value: Any) -> Any:
    """Compress an RLE if its runs cover its size; return everything else as it is."""
    if not isinstance(value, dict):
        return value
    counts, size = value.get('counts'), value.get('size')
    if not isinstance(counts, str | list) or not isinstance(size, list) or len(size) != 2:
        return value
    if not all(isinstance(side, int) for side in size):
        return value
    try:
        whole = rle_length(counts) == size[0] * size[1]
    except (TypeError, ValueError):
        return value
    if not whole:
        return value
    if isinstance(counts, str):
        return {'size': size, 'counts': counts.encode('ascii')}
    from pycocotools import mask as coco_mask

    return dict(coco_mask.frPyObjects(value, *size))


def frames_of(videos: Iterable[Json]) -> Iterator[Json]:
    """Yield every frame as an image with ``file_name``, ``video_id`` and ``frame_id``.

    Args:
        videos: Videos of the json; those without a list of names are passed over.
    """
    for video in videos:
        names = video.get('file_names')
        for frame_id, name in enumerate(names if isinstance(names, list) else ()):
            yield {'file_name': name, 'video_id': video.get('id'), 'frame_id': frame_id}


def annotation_in_frame(track: Json, frame_id: int) -> Json | None:
    """Return what a track says about one frame, in COCO's words.

    Args:
        track: Annotation of the json.
        frame_id: Number of the frame.

    Returns:
        ``segmentation``, ``bbox``, ``area``, ``iscrowd`` and ``ignore``; ``None`` where the object
        is absent.
    """
    found = {
        name: None if track.get(key) is None else track[key][frame_id]
        for key, name in PER_FRAME.items()
    }
    if found['segmentation'] is None and found['bbox'] is None:
        return None
    return {**found, 'iscrowd': track.get('iscrowd'), 'ignore': track.get('ignore')}


def judge_frame(annotation: Json, height: int, width: int) -> tuple[Verdict, str]:
    """Decide what happens with an object in one frame, and why.

    Args:
        annotation: From :func:`annotation_in_frame`.
        height: Height of the video.
        width: Width of the video.

    Returns:
        The verdict and its reason. A mask without a pixel is never used.
    """
    segmentation = annotation['segmentation']
    if _is_whole(segmentation):
        # Its runs were added up when it was read; one run of that length is quicker to judge.
        h, w = segmentation['size']
        annotation = {**annotation, 'segmentation': {'size': [h, w], 'counts': [h * w]}}
    verdict, reason = judge(annotation, height, width)
    if verdict in (Verdict.USE, Verdict.CROWD):
        mask = with_box_and_area({'segmentation': segmentation}, height, width)
        if not mask['area']:
            return Verdict.DROP, 'mask without a pixel'
    return verdict, reason


def _is_whole(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and isinstance(segmentation.get('counts'), bytes)
