"""Hold out a part of a video data set, where the official validation set has no annotations."""

import hashlib

from .annotation_file import Json, usable_id
from .errors import DataError


def held_out_videos(video_ids: list[int | str], share: float, seed: int) -> set[int | str]:
    """Choose the videos to hold out: those of the smallest hashes of (seed, id).

    The choice depends on the ids alone, not on their order; a larger share keeps the videos of a
    smaller one.

    Args:
        video_ids: All ids, each once.
        share: Part of the videos to hold out; at least one is, and at least one stays.
        seed: Another seed chooses other videos.

    Raises:
        ValueError: if the share is not between 0 and 1.
        DataError: if there are fewer than two videos.
    """
    if not 0 < share < 1:
        raise ValueError(f'the share to hold out must lie between 0 and 1, got {share}')
    if len(video_ids) < 2:
        raise DataError(f'nothing can be held out of {len(video_ids)} videos: two are needed')

    def place(identity: int | str) -> bytes:
        return hashlib.sha256(f'{seed}:{identity}'.encode()).digest()

    count = min(max(1, round(share * len(video_ids))), len(video_ids) - 1)
    return set(sorted(video_ids, key=place)[:count])


def split_videos(content: Json, share: float, seed: int) -> tuple[Json, Json]:
    """Split a YouTube-VIS json into what stays for training and what is held out.

    Everything but videos and annotations is in both.

    Args:
        content: The json.
        share: Part of the videos to hold out.
        seed: Another seed chooses other videos.

    Raises:
        ValueError: if the share is not between 0 and 1.
        DataError: if a video has no id or that of another one, or there are fewer than two.
    """
    ids: list[int | str] = [video.get('id') for video in content['videos']]
    if None in map(usable_id, ids) or len(set(ids)) < len(ids):
        raise DataError(
            'videos without an id, or with the same one, cannot be split: '
            'tools/check_dataset.py names them'
        )
    chosen = held_out_videos(ids, share, seed)

    def part(held_out: bool) -> Json:
        return {
            **content,
            'videos': [one for one in content['videos'] if (one['id'] in chosen) is held_out],
            'annotations': [
                one
                for one in content.get('annotations', ())
                if (usable_id(one.get('video_id')) in chosen) is held_out
            ],
        }

    return part(False), part(True)
