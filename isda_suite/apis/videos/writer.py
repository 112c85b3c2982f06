"""Write pictures as a video, or as a folder of files."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.inference import SUFFIXES
from isda_suite.apis.quiet_opencv import quiet_opencv
from isda_suite.checkpoint.atomic import put_in_place
from isda_suite.engine.errors import ConfigError

Array = NDArray[Any]
#: Codecs by suffix, the first one that OpenCV can write is taken. Browsers play WebM, and H.264
#: (avc1), which many builds of OpenCV cannot write.
_CODECS = {
    '.mp4': ('avc1', 'mp4v'),
    '.mov': ('avc1', 'mp4v'),
    '.mkv': ('avc1', 'mp4v', 'XVID'),
    '.avi': ('XVID', 'MJPG'),
    '.webm': ('VP80', 'VP90'),
}
#: Frames per second of videos whose source has none.
USUAL_FPS = 6.0


class PictureWriter(ABC):
    """Something that takes pictures one after the other; to be used in a ``with`` statement.

    Attributes:
        written: How many it has taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0

    def __enter__(self) -> 'PictureWriter':
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish, or after an error take away what was begun."""
        self._finish(complete=kind is None)

    @abstractmethod
    def write(self, picture: Array) -> None:
        """Take the next picture, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def _finish(self, complete: bool) -> None: ...


class _FolderWriter(PictureWriter):
    """Numbered JPEG files; each is whole or absent."""

    def write(self, picture: Array) -> None:
        from isda_suite.visualization.pictures import save_picture

        save_picture(self.path / f'{self.written:06d}.jpg', picture)
        self.written += 1

    def _finish(self, complete: bool) -> None:
        """Keep the files that are there."""


class _FileWriter(PictureWriter):
    """A video file that has its name only when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path)
        self._fps = fps
        # OpenCV takes the container from the suffix.
        self._part = path.with_name(f'.{path.stem}.tmp-{os.getpid()}{path.suffix}')
        self._encoder: Any = None
        self._size_wh = (0, 0)

    def write(self, picture: Array) -> None:
        picture = _even(picture)
        if self._encoder is None:
            self._size_wh = picture.shape[1], picture.shape[0]
            self._encoder = self._open()
        if self._size_wh != (picture.shape[1], picture.shape[0]):
            raise ValueError(
                f'{self.path}: picture {self.written} is (w, h) = {picture.shape[1::-1]}, the '
                f'video {self._size_wh}'
            )
        self._encoder.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self.written += 1

    def _open(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        codecs = _CODECS[self.path.suffix.lower()]
        for codec in codecs:
            with quiet_opencv():
                code = cv2.VideoWriter.fourcc(*codec)
                encoder = cv2.VideoWriter(str(self._part), code, self._fps, self._size_wh)
            if encoder.isOpened():
                return encoder
        self._part.unlink(missing_ok=True)
        raise ConfigError(
            f'{self.path}: OpenCV cannot write a video here (codecs {", ".join(codecs)}): is the '
            'folder writable? A name without a suffix writes the frames into a folder'
        )

    def _finish(self, complete: bool) -> None:
        if self._encoder is not None:
            self._encoder.release()
        try:
            if complete and self.written:
                self._check()
                put_in_place(self._part, self.path)
        finally:
            self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        """Look whether the frames are there: the encoder says nothing of a full disk."""
        with quiet_opencv():
            capture = cv2.VideoCapture(str(self._part))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found < self.written:
            raise OSError(
                f'{self.path}: {found} of {self.written} frames were written: is the disk full?'
            )


def open_writer(path: str | Path, fps: float | None = None) -> PictureWriter:
    """Choose a writer by the suffix of a name; nothing is written yet.

    Args:
        path: ``.mp4``, ``.mov``, ``.mkv``, ``.avi`` or ``.webm`` for a video, no suffix for a
            folder.
        fps: Frames per second of a video; ``None`` is 6, the rate of YouTube-VIS.

    Raises:
        ConfigError: if the suffix is another one, a folder has the name of the video, or the folder
            holds pictures, which the frames could replace or be mixed with.
    """
    place = Path(path).expanduser()
    if not place.suffix or place.is_dir():
        if place.suffix.lower() in _CODECS or place.is_file():
            raise ConfigError(f'{place} is {"a file" if place.is_file() else "a folder"}')
        if place.is_dir() and any(file.suffix.lower() in SUFFIXES for file in place.iterdir()):
            raise ConfigError(f'{place} holds pictures already: give a new folder for the frames')
        return _FolderWriter(place)
    if place.suffix.lower() not in _CODECS:
        raise ConfigError(
            f'{place}: videos end with {", ".join(_CODECS)}; a name without a suffix writes the '
            'frames into a folder'
        )
    return _FileWriter(place, fps or USUAL_FPS)


def check_out(path: str | Path | None, source: Any = None) -> None:
    """Refuse early what :func:`open_writer` would refuse, and to replace the source.

    Args:
        path: What will be written; ``None`` is nothing.
        source: What will be read.

    Raises:
        ConfigError: see there.
    """
    if path is None:
        return
    open_writer(path)
    is_path = isinstance(source, str | Path)
    if is_path and Path(source).expanduser().resolve() == Path(path).expanduser().resolve():
        raise ConfigError(f'{path} is the source: the drawn video would replace it')


def _even(picture: Array) -> Array:
    """Repeat the last row or column where a side is odd: encoders drop it."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    return picture
