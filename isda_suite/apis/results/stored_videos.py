"""Videos that results belong to: opened when they are predicted, and again when they are drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isda_suite.apis.videos.source import Video, open_video
from isda_suite.datasets.errors import DataError

#: Names of video files end with these.
SUFFIXES = ('.mp4', '.m4v', '.mov', '.mkv', '.webm', '.avi', '.mpg', '.mpeg', '.wmv', '.ogv', '.ts')
_STARTS = ((4, b'ftyp'), (0, b'\x1aE\xdf\xa3'), (8, b'AVI '), (0, b'\x00\x00\x01\xba'))


def is_video_file(path: Path) -> bool:
    """Tell a video file by its suffix, or one without a suffix by how it begins."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    with path.open('rb') as file:
        start = file.read(16)
    return any(start[place:].startswith(sign) for place, sign in _STARTS)


@dataclass(frozen=True, eq=False)
class StoredVideo:
    """A video, as :func:`.videos.source.open_video` takes it.

    Args:
        source: The video.
        owner: What keeps the file, if it is a temporary one.
    """

    source: Any
    owner: Any = None

    @property
    def opens_again(self) -> bool:
        """Whether its frames can be read a second time."""
        return not isinstance(self.source, Iterator | int)

    def open(self, every: int = 1, max_frames: int | None = None) -> Video:
        """Open it.

        Args:
            every: Take every n-th frame.
            max_frames: End after this many.

        Raises:
            DataError: if it is no video.
        """
        if isinstance(self.source, Video):
            return self.source
        return open_video(self.source, every, max_frames)

    def open_again(self) -> Video:
        """Open it to read its frames a second time.

        Raises:
            DataError: if they came from a generator or a camera.
        """
        if not self.opens_again:
            raise DataError(
                'the frames came from a generator or a camera and are gone: give a list of frames '
                'or a file to draw them afterwards, or draw while predicting, with Segmenter.track'
            )
        return self.open()
