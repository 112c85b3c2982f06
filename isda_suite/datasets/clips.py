"""Which frames of a video make a clip, in training and in tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = dict[str, Any]


def cyclic_window(end_frame: int, video_length: int, num_frames: int) -> list[int]:
    """Return the frames of a training clip: consecutive ones that end at a frame, cyclic.

    Position j of T shows frame ``end - ((T - 1 - j) mod L)``, counted from the end of the video
    where that is negative. A video of L < T frames is repeated in whole periods; in one of L >= T
    frames the window wraps.

    Args:
        end_frame: The last frame of the clip, 0..L-1.
        video_length: L, frames of the video.
        num_frames: T, frames of the clip.

    Source: VisTR and DefVisTR, training data.
    """
    return [
        (end_frame - (num_frames - 1 - position) % video_length) % video_length
        for position in range(num_frames)
    ]


def check_clip_length(clip_len: int, overlap: int) -> None:
    """Refuse lengths by which a video cannot be cut.

    Raises:
        ValueError: if there is no frame in a clip, or the next clip would start no later.
    """
    if clip_len < 1 or not 0 <= overlap < clip_len:
        raise ValueError(
            f'a clip needs at least one frame and an overlap from 0 to one less than its frames: '
            f'got clip_len={clip_len}, overlap={overlap}'
        )


def clip_starts(video_length: int, clip_len: int, overlap: int) -> list[int]:
    """Return the first frames of the clips that cover a video.

    They are ``clip_len - overlap`` apart; the last clip ends with the video, so that its overlap
    may be larger. A video of at most ``clip_len`` frames is one clip.

    Args:
        video_length: Frames of the video.
        clip_len: Frames of a clip.
        overlap: Frames that a clip shares with the next one, at least.
    """
    last = max(video_length - clip_len, 0)
    return [*range(0, last, clip_len - overlap), last]


def clip_records(video: Mapping[str, Any], clip_len: int, overlap: int) -> Iterator[Record]:
    """Cut the record of a video into records of clips.

    Args:
        video: mmdet's record with ``video_id``, ``video_length`` and ``images``.
        clip_len: Frames of a clip.
        overlap: Frames that a clip shares with the next one, at least.

    Yields:
        The video's entries with the ``images`` of one clip, each once; ``clip_frames``, the
        numbers of its ``clip_len`` frames, from the start again after the end of a short video;
        ``clip_start``; ``num_valid``, how many of them are distinct; ``is_last_clip``.
    """
    length = video['video_length']
    starts = clip_starts(length, clip_len, overlap)
    num_valid = min(clip_len, length)
    for start in starts:
        yield {
            **video,
            'images': video['images'][start : start + num_valid],
            'clip_frames': [start + position % num_valid for position in range(clip_len)],
            'clip_start': start,
            'num_valid': num_valid,
            'is_last_clip': start == starts[-1],
        }


def as_clip(video: Mapping[str, Any], frames: Sequence[Record], **facts: Any) -> Record:
    """Put frames side by side, as mmcv's ``TransformBroadcaster`` and mmdet's transforms want them.

    Args:
        video: Record of the video.
        frames: Records of the clip's T frames, which may repeat.
        **facts: What else the clip's data sample is told.

    Returns:
        A list of T entries for every key of the frames, and ``clip_info``, T times the same
        dictionary.
    """
    length = video['video_length']
    clip: Record = {
        key: [frame[key] for frame in frames] for key in frames[0] if key != 'video_length'
    }
    count = len(frames)
    clip['video_id'] = [video['video_id']] * count
    clip['video_length'] = [count] * count
    clip['ori_video_length'] = [length] * count
    info = {'video_id': video['video_id'], 'video_length': length, **facts}
    clip['clip_info'] = [info] * count
    return clip
