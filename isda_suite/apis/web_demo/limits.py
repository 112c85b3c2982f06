"""What the demo takes, said before the network has run for minutes."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.large_images.rasters import SUFFIXES as RASTER_SUFFIXES
from isda_suite.apis.large_images.rasters import RasterPicture, rasterio_is_there
from isda_suite.apis.results.stored_videos import is_video_file
from isda_suite.apis.videos.source import open_video
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import read_image
from isda_suite.datasets.image_header import read_header
from isda_suite.engine.errors import ConfigError

Array = NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Args:
        max_megapixels: Larger images, and videos of larger frames.
        max_frames: Longer videos.
        max_file_mb: Larger files.
    """

    max_megapixels: float = 50.0
    max_frames: int = 300
    max_file_mb: float = 200.0

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f'{name} must be more than 0, got {value}')

    def check(self, file: Path, task: str) -> None:
        """Refuse a file that is too large, or not what a model of this task takes.

        Args:
            file: What the visitor dropped.
            task: ``'instance'``, ``'semantic'`` or ``'video'``.

        Raises:
            DataError: with what to do instead.
        """
        if is_video_file(file) != (task == 'video'):
            wanted, found = ('a video', 'an image') if task == 'video' else ('an image', 'a video')
            raise DataError(
                f'{file.name} is {found}, and this model takes {wanted}: choose another model, or '
                f'drop {wanted}'
            )
        self.check_size(file)

    def check_size(self, file: Path) -> None:
        """Refuse a file that is too large.

        Raises:
            DataError: with what to do instead; also if it is a video without frames.
        """
        if is_video_file(file):
            self._check_pixels(file, first_frame(file).shape[:2])
            self._check_frames(file)
            return
        size_hw = _size_of(file)
        if size_hw is not None:
            self._check_pixels(file, size_hw)

    def _check_pixels(self, file: Path, size_hw: tuple[int, ...]) -> None:
        height, width = size_hw
        if height * width > self.max_megapixels * 1e6:
            raise DataError(
                f'{file.name} is {width} x {height}, {height * width / 1e6:.1f} megapixels: this '
                f'page takes at most {self.max_megapixels:g} (--max-megapixels): make it smaller, '
                'or use the command predict or segment'
            )

    def _check_frames(self, file: Path) -> None:
        count = open_video(file).num_frames
        if count is None:
            frames = itertools.islice(open_video(file), self.max_frames + 1)
            count = sum(1 for _ in frames)
        if count > self.max_frames:
            raise DataError(
                f'{file.name} has {count} frames or more: this page takes at most '
                f'{self.max_frames} (--max-frames): cut it, or use the command predict-video'
            )


def _size_of(file: Path) -> tuple[int, int] | None:
    header = read_header(str(file))
    if header is not None:
        return header.size_hw
    if file.suffix.lower() in RASTER_SUFFIXES and rasterio_is_there():
        raster = RasterPicture(file)
        try:
            return raster.size_hw
        finally:
            raster.close()
    return None


def first_frame(file: Path) -> Array:
    """Return the first frame of a video, (H, W, 3) uint8 BGR.

    Raises:
        DataError: if it has none, or is no video.
    """
    return next(iter(open_video(file, max_frames=1)))


def preview(file: Path, longest: int = 1280) -> Array | None:
    """Return a file's picture, reduced, before anything is found in it.

    Args:
        file: An image or a video.
        longest: Side of the picture, in pixels, at most.

    Returns:
        (H, W, 3) uint8 RGB; ``None`` of a raster, whose bands have to be chosen.

    Raises:
        DataError: if it is neither an image nor a video.
    """
    if file.suffix.lower() in RASTER_SUFFIXES:
        return None
    pixels = first_frame(file) if is_video_file(file) else read_image(str(file))
    factor = max(1, -(-max(pixels.shape[:2]) // longest))
    return np.ascontiguousarray(pixels[::factor, ::factor, ::-1])
