"""Predicted tracks of videos in plain form, and those of all ranks together."""

from collections.abc import Iterable
from typing import Any

from isda_suite.metrics.mask_code import as_array

Json = dict[str, Any]


def is_of_video(sample: Json) -> bool:
    """Say whether a tested sample is a clip of a video, and no image."""
    return 'video_done' in sample or 'pred_tracks' in sample


def video_record(sample: Json) -> Json | None:
    """Return the tracks of a video.

    Args:
        sample: ``video_id``, ``video_done``, and where that is true ``video_length``,
            ``ori_shape`` and ``pred_tracks``: ``scores`` (N,), ``labels`` (N,) and ``masks``, for
            each track a list with a compressed RLE or None for each frame.

    Returns:
        ``video_id``, ``video_length``, ``size_hw`` and ``tracks``, each with ``label``, ``score``
        and ``segmentations``; ``None`` for a clip that is not the last of its video.

    Raises:
        ValueError: if the sample is not of this form.
    """
    if not is_of_video(sample) or 'video_id' not in sample:
        raise ValueError(
            'samples of videos have video_id, video_done and, at the end of the video, '
            f'pred_tracks; this one has {sorted(sample)}'
        )
    if not sample.get('video_done', True):
        return None
    tracks, length = sample['pred_tracks'], int(sample['video_length'])
    rows = zip(
        as_array(tracks['labels']).tolist(),
        as_array(tracks['scores']).tolist(),
        tracks['masks'],
        strict=True,
    )
    record = {
        'video_id': sample['video_id'],
        'video_length': length,
        'size_hw': [int(side) for side in sample['ori_shape'][:2]],
        'tracks': [
            {'label': label, 'score': score, 'segmentations': [plain_code(mask) for mask in masks]}
            for label, score, masks in rows
        ],
    }
    for track in record['tracks']:
        if len(track['segmentations']) != length:
            raise ValueError(
                f'video {record["video_id"]!r} has {length} frames, but a track has '
                f'{len(track["segmentations"])} masks'
            )
    return record


def plain_code(mask: Json | None) -> Json | None:
    """Return an RLE as json takes it."""
    if mask is None:
        return None
    counts = mask['counts']
    text = counts.decode('ascii') if isinstance(counts, bytes) else counts
    return {'size': [int(side) for side in mask['size']], 'counts': text}


def merged_videos(parts: Iterable[tuple[list[Json], set[Any]]]) -> list[Json]:
    """Put the videos of all ranks together; one that several ranks had counts once.

    Args:
        parts: Of each rank the records of its videos, and the ids of those that were not done.

    Returns:
        The records in the order of the videos' ids, however many ranks there were.

    Raises:
        ValueError: if a video was not done by any rank.
    """
    parts = list(parts)
    videos: dict[Any, Json] = {}
    for records, _ in parts:
        for record in records:
            videos.setdefault(record['video_id'], record)
    undone = {one for _, ids in parts for one in ids} - set(videos)
    if undone:
        raise ValueError(
            f'{len(undone)} videos have no last clip (video_done): {sorted(undone, key=str)[:5]}; '
            'all clips of a video have to go to one process, in order, as isda_suite.VideoSampler '
            'gives them'
        )
    return sorted(videos.values(), key=_by_id)


def _by_id(record: Json) -> tuple[str, Any]:
    # Ids are numbers or texts, which do not compare with each other.
    return type(record['video_id']).__name__, record['video_id']
