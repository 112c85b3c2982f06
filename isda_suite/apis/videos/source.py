"""Frames of a video, one after the other: files, folders, patterns, arrays and cameras."""

import glob
import itertools
import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.inference import SUFFIXES
from isda_suite.apis.quiet_opencv import quiet_opencv
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import fault_of_start, read_image
from isda_suite.engine.errors import ConfigError

Array = NDArray[Any]
Source = str | Path | int | Iterable[Array]
Frames = Generator[tuple[Array, str], None, None]
__all__ = ['Source', 'Video', 'open_video', 'stopped_by_interrupt']


class Video(ABC):
    """A video whose frames are read once, when they are asked for.

    Args:
        name: What it is called in messages.
        every: Only every n-th frame is taken, the first one included.
        max_frames: End after this many of them; ``None`` takes all.

    Attributes:
        fps: Frames per second that are taken; ``None`` where nobody knows.
        num_frames: How many there will be; ``None`` where nobody knows. Of a file this is what
            its header tells, which may be wrong.
        notes: What the user should know, once the frames have been read.
    """

    def __init__(self, name: str, every: int = 1, max_frames: int | None = None) -> None:
        for option, value in (('every', every), ('max_frames', max_frames)):
            if value is not None and value < 1:
                raise ConfigError(f'{option} must be at least 1, got {value}')
        self.name = name
        self.every = every
        self.max_frames = max_frames
        self.fps: float | None = None
        self.num_frames: int | None = None
        self.notes: list[str] = []
        self._stopped = False

    def stop(self) -> None:
        """End the video with the frame that is read next, as if it were over there."""
        self._stopped = True

    def __iter__(self) -> Iterator[Array]:
        """Yield the frames.

        Yields:
            (H, W, 3) uint8 BGR, all of one size.

        Raises:
            DataError: if there is no frame, or one cannot be read or has another size.
        """
        first_hw: tuple[int, ...] | None = None
        frames = self._read()
        try:
            for number, (frame, name) in enumerate(itertools.islice(frames, self.max_frames)):
                first_hw = first_hw or frame.shape[:2]
                if frame.shape[:2] != first_hw:
                    raise DataError(
                        f'{self.name}: frame {number} ({name}) is (h, w) = {frame.shape[:2]}, the '
                        f'first one {first_hw}: the frames of a video have one size'
                    )
                yield frame
                if self._stopped:
                    return
        finally:
            frames.close()
        if first_hw is None:
            raise DataError(f'{self.name}: the video has no frame')

    def _expect(self, num_frames: int | None, fps: float | None) -> None:
        """Note how many frames there are and their rate, before any is left out."""
        self.fps = fps / self.every if fps else None
        if num_frames is not None:
            taken = -(-num_frames // self.every)
            self.num_frames = taken if self.max_frames is None else min(taken, self.max_frames)

    @abstractmethod
    def _read(self) -> Frames:
        """Yield the frames to take, and what each is called."""


class _Capture(Video):
    """What OpenCV captures: the frames of a file or of a camera."""

    def _capture(self) -> Any:
        raise NotImplementedError

    def _read(self) -> Frames:
        capture = self._capture()
        try:
            for number in itertools.count():
                if not capture.grab():
                    self._ended(number)
                    return
                if number % self.every:
                    continue
                done, frame = capture.retrieve()
                if not done:
                    raise DataError(f'{self.name}: frame {number} cannot be decoded')
                yield frame, f'number {number}'
        finally:
            capture.release()

    def _ended(self, number: int) -> None:
        """Take note that there were so many frames."""


class _VideoFile(_Capture):
    """A file that OpenCV can decode."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(str(path), **options)
        self._path = path
        capture = self._capture()
        self._told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._expect(self._told if self._told > 0 else None, capture.get(cv2.CAP_PROP_FPS))
        is_empty = not capture.grab()  # a header may be there without any frame
        capture.release()
        if is_empty:
            raise self._fault()

    def _capture(self) -> Any:
        with quiet_opencv():
            capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise self._fault()
        return capture

    def _fault(self) -> DataError:
        with self._path.open('rb') as file:
            fault = fault_of_start(file.read(64), 'a video')
        fault = fault or 'cannot be decoded: cut off, no video, or of a codec OpenCV lacks'
        return DataError(f'{self._path}: {fault}')

    def _ended(self, number: int) -> None:
        if number < self._told:
            self.notes.append(
                f'{self.name}: the header tells of {self._told} frames, {number} could be decoded: '
                'cut off?'
            )


class _Camera(_Capture):
    """A camera of this machine; its frames end when it is stopped or unplugged."""

    def __init__(self, index: int, **options: Any) -> None:
        super().__init__(f'camera {index}', **options)
        self._index = index
        self._opened: Any = self._capture()
        self._expect(None, self._opened.get(cv2.CAP_PROP_FPS))
        self.num_frames = self.max_frames

    def _capture(self) -> Any:
        # Opening some cameras again takes seconds, or fails.
        opened, self._opened = getattr(self, '_opened', None), None
        if opened is not None:
            return opened
        with quiet_opencv():
            capture = cv2.VideoCapture(self._index)
        if not capture.isOpened():
            raise DataError(
                f'{self.name} cannot be opened: none there, used by another program, or not '
                'allowed to this user'
            )
        return capture


class _Pictures(Video):
    """Picture files, a frame each."""

    def __init__(self, name: str, files: list[Path], **options: Any) -> None:
        super().__init__(name, **options)
        self._files = files
        self._expect(len(files), None)

    def _read(self) -> Frames:
        for file in self._files[:: self.every]:
            yield read_image(str(file)), file.name


class _Arrays(Video):
    """Frames somebody else has, or makes one after the other."""

    def __init__(self, arrays: Iterable[Array], **options: Any) -> None:
        super().__init__('arrays', **options)
        self._arrays = arrays
        self._expect(len(arrays) if isinstance(arrays, Sized) else None, None)

    def _read(self) -> Frames:
        for number, array in enumerate(itertools.islice(self._arrays, 0, None, self.every)):
            yield _as_bgr(array, number * self.every), f'number {number * self.every}'


def open_video(source: Source, every: int = 1, max_frames: int | None = None) -> Video:
    """Find out what a source is, and open it.

    Args:
        source: A video file; a folder of pictures, taken in the order of the numbers in their
            names; a pattern with ``*``; the index of a camera (``0`` or ``'0'``); or arrays
            (H, W, 3) or (H, W), uint8 BGR or grey, which may come from a generator.
        every: Only every n-th frame is taken.
        max_frames: End after this many.

    Returns:
        The video. Pictures and arrays have no rate.

    Raises:
        DataError: if there is no such file or picture, it is no video, or the camera cannot be
            opened.
        ConfigError: if an option is out of range.
    """
    options: dict[str, Any] = dict(every=every, max_frames=max_frames)
    if isinstance(source, np.ndarray) and source.ndim < 3:
        raise DataError(f'a video given as an array must be (T, H, W, 3), got {source.shape}')
    if isinstance(source, int):
        return _Camera(source, **options)
    if not isinstance(source, str | Path):
        return _Arrays(source, **options)
    path = Path(source).expanduser()
    if path.is_dir():
        return _Pictures(str(path), _pictures(path, path.iterdir()), **options)
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            raise DataError(f'{path} is one picture: give the folder of the frames, or a pattern')
        return _VideoFile(path, **options)
    if glob.has_magic(str(source)):
        found = map(Path, glob.glob(str(path), recursive=True))
        return _Pictures(str(source), _pictures(path, found), **options)
    if re.fullmatch(r'\d{1,3}', str(source)):
        return _Camera(int(str(source)), **options)
    raise DataError(f'no video {source} (working directory {Path.cwd()})')


@contextmanager
def stopped_by_interrupt(video: Video) -> Iterator[None]:
    """Let the first Ctrl-C stop a video instead of the program; the second one stops that."""

    def stop(number: int, _: Any) -> None:
        video.stop()
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pictures(place: Path, candidates: Iterable[Path]) -> list[Path]:
    files = [file for file in candidates if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise DataError(f'{place}: no file here ends with one of {" ".join(SUFFIXES)}')
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[Any]:
    """Sort ``frame_10`` behind ``frame_9``."""
    words = re.split(r'(\d+)', str(path))
    return [int(word) if index % 2 else word for index, word in enumerate(words)]


def _as_bgr(array: Array, number: int) -> Array:
    frame = np.asarray(array)
    if frame.dtype == np.uint8 and frame.size and frame.ndim in (2, 3):
        if frame.ndim == 2 or frame.shape[2] == 1:
            return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
        if frame.shape[2] == 3:
            return frame
    raise DataError(
        f'frame {number}: frames given as arrays must be (H, W, 3) or (H, W) uint8, got '
        f'{frame.dtype} {frame.shape}'
    )
