"""What a model is given: paths, folders, patterns, addresses, arrays, pictures, videos."""

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.downloads.remote_files import FetchedFile, is_address, local_path
from isda_suite.apis.large_images.rasters import SUFFIXES as RASTER_SUFFIXES
from isda_suite.apis.large_images.rasters import BandChoice, is_georeferenced, rasterio_is_there
from isda_suite.apis.results.stored_images import (
    ImageInFile,
    ImageInMemory,
    ImageInRaster,
    StoredImage,
)
from isda_suite.apis.results.stored_videos import StoredVideo, is_video_file
from isda_suite.apis.videos.source import Video
from isda_suite.datasets.errors import DataError

from .inference import SUFFIXES, check_array, find_images

Array = NDArray[Any]
IMAGE_SUFFIXES = (*SUFFIXES, '.jp2')
_ACCEPTED = (
    'a path, folder or pattern, an address (https://…), a BGR array (H, W, 3) uint8, a PIL image, '
    'a video, or several of these'
)


@dataclass(frozen=True, eq=False)
class ImageInput:
    """One image to predict.

    Args:
        name: Name of its results, without a suffix.
        source: What it is for the user: path or address, or the BGR array.
        stored: How to read it.
        frame: Its number, if it is a frame of a video.
    """

    name: str
    source: str | Path | Array
    stored: StoredImage
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class VideoInput:
    """One video to predict.

    Args:
        name: Name of its results, without a suffix.
        source: What it is for the user: path or address, or ``'arrays'``.
        stored: How to read it.
    """

    name: str
    source: str | Path
    stored: StoredVideo


Input = ImageInput | VideoInput


@dataclass
class Expanded:
    """What inputs stand for.

    Args:
        items: One after the other; names may repeat.
        total: How many there are; ``None`` where nobody knows.
        is_one: Whether they are one image, or one video for a model of videos.
    """

    items: Iterator[Input]
    total: int | None
    is_one: bool = False


class InputReader:
    """Find out what inputs are, for a model of one task.

    Args:
        task: ``instance``, ``semantic`` or ``video``.
        bands: Which bands of rasters are taken.
        in_windows: Whether TIFF and JPEG 2000 without a place on a map are read as rasters too.
    """

    def __init__(
        self, task: str, bands: BandChoice | None = None, in_windows: bool = False
    ) -> None:
        self.takes_videos = task == 'video'
        self._bands = bands or BandChoice()
        self._in_windows = in_windows

    def expand(self, inputs: Any) -> Expanded:
        """Expand inputs; files are looked for at once, unless they come from a generator.

        Args:
            inputs: One input or an iterable of them.

        Raises:
            DataError: if something is missing or is no input, or a folder holds nothing.
        """
        found = self._expand(inputs)
        return replace(found, items=_Named(found.items))

    def _expand(self, inputs: Any) -> Expanded:
        if is_one_thing(inputs):
            return self._part(inputs)
        if not isinstance(inputs, Iterable):
            raise DataError(f'expected {_ACCEPTED}; got {type(inputs).__name__}')
        if self.takes_videos:
            first, inputs = _peek(inputs)
            if is_picture(first):
                return _one(VideoInput('video', 'arrays', StoredVideo(_frames(inputs))))
        if not isinstance(inputs, Sequence):
            return Expanded(_Chained(lambda one: self._part(one).items, inputs), None)
        return _joined([self._later(one) for one in inputs])

    def _later(self, given: Any) -> Expanded:
        """Take one of several inputs; what an address holds is fetched when its turn comes."""
        if isinstance(given, str) and is_address(given) and local_path(given) is None:
            return Expanded(_Chained(lambda one: self._part(one).items, [given]), 1)
        return self._part(given)

    def _part(self, given: Any) -> Expanded:
        if isinstance(given, str) and is_address(given):
            local = local_path(given)
            if local is None:
                fetched = FetchedFile(given)
                return self._file(fetched.path, given, fetched)
            given = local
        if isinstance(given, str | Path):
            return self._path(given)
        if is_video(given):
            name = given.name if isinstance(given, Video) else f'camera {given}'
            return self._video(VideoInput(Path(name).stem, name, StoredVideo(given)))
        if self.takes_videos:
            raise DataError(
                f'{_described(given)} is no video, and the model takes videos: one picture has no '
                'motion to track. Give a file, a folder of frames, or a list of frames'
            )
        pixels = as_pixels(given)
        return _one(ImageInput('', pixels, ImageInMemory(pixels)))

    def _path(self, given: str | Path) -> Expanded:
        path = Path(given).expanduser()
        if path.is_file():
            return self._file(path, path, None)
        candidates = listed(given, 'video' if self.takes_videos else 'image')
        files = [file for file in candidates if file.is_file()]
        videos = [file for file in files if file.suffix and is_video_file(file)]
        if self.takes_videos:
            return self._videos(given, videos)
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        # Videos in a folder of photographs are left alone. Of nothing, find_images tells.
        chosen = images or videos or [file for file in find_images(given) if isinstance(file, Path)]
        return _joined([self._file(file, file, None) for file in chosen])

    def _videos(self, given: str | Path, videos: list[Path]) -> Expanded:
        """Take video files, or pictures as the frames of one video."""
        if videos:
            return _joined([self._file(file, file, None) for file in videos])
        stored = StoredVideo(given)
        stored.open()  # a folder without pictures is found now
        return _one(VideoInput(_name_of(given), Path(given), stored))

    def _file(self, path: Path, source: str | Path, owner: Any) -> Expanded:
        """Take a file; the owner keeps one that was fetched."""
        if is_video_file(path) or self.takes_videos:
            stored = StoredVideo(path, owner)
            stored.open()  # a broken file is found now
            return self._video(VideoInput(_name_of(path), source, stored))
        stored_image: StoredImage = ImageInFile(path, owner)
        if path.suffix.lower() in RASTER_SUFFIXES and rasterio_is_there():
            if self._in_windows or is_georeferenced(path):
                stored_image = ImageInRaster(path, self._bands, owner)
        return _one(ImageInput(_name_of(path), source, stored_image))

    def _video(self, video: VideoInput) -> Expanded:
        """Take a video whole, or for a model of images its frames."""
        if self.takes_videos:
            return _one(video)
        opened = video.stored.open()
        return Expanded(_images_of(video, opened), opened.num_frames)


def listed(given: str | Path, kind: str) -> list[Path]:
    """Return what a folder holds or a pattern stands for, in the order of the names.

    Args:
        given: A folder or a pattern.
        kind: What is looked for, to say that it is not there.

    Raises:
        DataError: if it is neither.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return sorted(path.iterdir())
    if glob.has_magic(str(given)):
        return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    raise DataError(f'no {kind} {given} (working directory {Path.cwd()})')


def is_one_thing(given: Any) -> bool:
    """Tell one input from an iterable of them."""
    return isinstance(given, str | Path) or is_video(given) or is_picture(given)


def is_video(given: Any) -> bool:
    """Tell a video that is open, the number of a camera, and an array of frames (T, H, W, 3)."""
    is_camera = isinstance(given, int) and not isinstance(given, bool)
    return isinstance(given, Video) or is_camera or getattr(given, 'ndim', 0) == 4


def is_picture(given: Any) -> bool:
    """Tell an array or a PIL image, right or wrong; four axes are those of a video."""
    if isinstance(given, np.ndarray):
        return given.ndim != 4
    from PIL import Image

    return isinstance(given, Image.Image)


def as_pixels(given: Any) -> Array:
    """Return a picture in memory as (H, W, 3) uint8 BGR.

    A PIL image is taken as it is stored, without its rotation tag; transparency is dropped, and of
    16 bits the upper 8 are kept, as of files.

    Raises:
        DataError: if it is none, or has values that cannot be taken for colours.
    """
    if isinstance(given, np.ndarray):
        return check_array(given)
    from PIL import Image

    if not isinstance(given, Image.Image):
        raise DataError(f'expected {_ACCEPTED}; got {type(given).__name__}')
    if given.mode in ('I', 'F'):
        raise DataError(
            f'a PIL image of mode {given.mode!r} has values of 32 bits, the model takes bytes: '
            "scale them to 0..255 and convert('L')"
        )
    if given.mode.startswith('I;16'):
        grey = (np.asarray(given) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return check_array(np.ascontiguousarray(np.asarray(given.convert('RGB'))[..., ::-1]))


def _images_of(video: VideoInput, opened: Video) -> Iterator[ImageInput]:
    for number, pixels in enumerate(opened):
        name = f'{video.name}_{number:06d}'
        yield ImageInput(name, video.source, ImageInMemory(pixels), number)


def _frames(pictures: Iterable[Any]) -> Any:
    """Return pictures as frames: a list of a list, which can be read again, or a generator."""
    frames = (as_pixels(one) for one in pictures)
    return list(frames) if isinstance(pictures, Sequence) else frames


def _peek(given: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """Return the first one of an iterable, and the iterable with it."""
    if isinstance(given, Sequence):
        return (given[0] if given else None), given
    rest = iter(given)
    first = next(rest, None)
    return first, itertools.chain(() if first is None else (first,), rest)


def _one(item: Input) -> Expanded:
    return Expanded(iter([item]), 1, is_one=True)


class _Chained(Iterator[Input]):
    """Chain what inputs stand for, found when their turn comes; it too goes on behind an error."""

    def __init__(self, part_of: Callable[[Any], Iterator[Input]], inputs: Iterable[Any]) -> None:
        self._part_of = part_of
        self._inputs = iter(inputs)
        self._items: Iterator[Input] = iter(())

    def __next__(self) -> Input:
        """Return the next item."""
        while True:
            for item in self._items:
                return item
            self._items = self._part_of(next(self._inputs))


def _joined(parts: list[Expanded]) -> Expanded:
    totals = [part.total for part in parts]
    total = None if None in totals else sum(one for one in totals if one is not None)
    return Expanded(itertools.chain.from_iterable(part.items for part in parts), total)


class _Named(Iterator[Input]):
    """Give names to arrays, and others to what is called as something before it.

    No generator: those end with the first error, and this goes on behind it.
    """

    def __init__(self, items: Iterator[Input]) -> None:
        self._items = items
        self._taken: set[str] = set()
        self._index = 0

    def __next__(self) -> Input:
        """Return the next item."""
        index, self._index = self._index, self._index + 1
        item = next(self._items)
        name = item.name or f'image_{index}'
        name = name if name not in self._taken else f'{index}_{name}'
        self._taken.add(name)
        return replace(item, name=name)


def _name_of(path: str | Path) -> str:
    """Return a name of results for a file, a folder or a pattern."""
    stem = Path(path).expanduser().resolve().stem
    return ''.join(sign for sign in stem if sign not in '*?[]') or 'video'


def _described(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f'an array {given.shape}'
    return f'{type(given).__name__} {str(given)[:40]!r}'
