"""Cut a stream of frames, whose length nobody needs to know, into overlapping clips."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from isda_suite.datasets.clips import check_clip_length
from isda_suite.engine.errors import ConfigError

Frame = TypeVar('Frame')


@dataclass(frozen=True)
class Clip(Generic[Frame]):
    """T frames that go through a model together.

    Attributes:
        frames: T frames; those of a video shorter than T are repeated from its start.
        numbers: The number of each in its video.
        num_valid: How many at the start are different frames.
        is_last: Whether the last of them ends the video.
    """

    frames: list[Frame]
    numbers: list[int]
    num_valid: int
    is_last: bool

    @property
    def start(self) -> int:
        """The number of the first frame."""
        return self.numbers[0]


def check_clips(clip_len: int, overlap: int) -> None:
    """Refuse lengths that cannot work.

    Raises:
        ConfigError: if there would be no clip, or none would add a frame.
    """
    try:
        check_clip_length(clip_len, overlap)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def cut_clips(frames: Iterable[Frame], clip_len: int, overlap: int) -> Iterator[Clip[Frame]]:
    """Cut a stream into clips that start every ``clip_len - overlap`` frames.

    The last clip is moved back so that it ends with the stream. So the clips are those of
    :func:`isda_suite.datasets.clips.clip_records`, which has to know the length. Only the last
    ``clip_len`` frames are held, and one that was read ahead.

    Args:
        frames: The stream, read once.
        clip_len: T.
        overlap: Frames that neighbouring clips share; the last one may share more.

    Yields:
        The clips in order; none if there is no frame.

    Raises:
        ConfigError: if the lengths cannot work.
    """
    check_clips(clip_len, overlap)
    held: deque[Frame] = deque(maxlen=clip_len)
    count = 0  # frames that were held so far
    due = clip_len  # clip ends at this count
    for frame in frames:
        if count == due:
            yield _clip(held, count, clip_len, is_last=False)
            due += clip_len - overlap
        held.append(frame)
        count += 1
    if held:
        yield _clip(held, count, clip_len, is_last=True)


def _clip(held: deque[Frame], count: int, clip_len: int, is_last: bool) -> Clip[Frame]:
    num_valid = len(held)
    first = count - num_valid
    places = [place % num_valid for place in range(clip_len)]
    numbers = [first + place for place in places]
    return Clip([held[place] for place in places], numbers, num_valid, is_last)
