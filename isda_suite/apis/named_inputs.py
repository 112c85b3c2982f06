"""Inputs that a command line names: looked for before a model is built, and opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isda_suite.apis.downloads.remote_files import FetchedFile, is_address, local_path
from isda_suite.apis.results.stored_videos import SUFFIXES as VIDEO_SUFFIXES
from isda_suite.apis.videos.source import Video, open_video

from .inference import find_images
from .inputs import IMAGE_SUFFIXES, listed


def require_input(given: str) -> list[Path]:
    """Refuse early, before there is a model, what stands for no file.

    Args:
        given: A path, folder, pattern, or an address, which is not fetched.

    Returns:
        The files; none of an address.

    Raises:
        DataError: if there are none, or an address is of another kind.
    """
    if is_address(given):
        local = local_path(given)
        return [] if local is None else require_input(str(local))
    path = Path(given).expanduser()
    if path.is_file():
        return [path]
    found = listed(given, 'image or video')
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    files = [file for file in found if file.suffix.lower() in known]
    # Of nothing find_images says what there is instead.
    return files or [file for file in find_images(given) if isinstance(file, Path)]


@contextmanager
def opened_video(given: str, every: int = 1, max_frames: int | None = None) -> Iterator[Video]:
    """Open a video; what comes from an address is removed in the end.

    Args:
        given: An address, or a source as :func:`.videos.source.open_video` takes it.
        every: See there.
        max_frames: See there.

    Yields:
        The video.

    Raises:
        DataError: if it is no video, or cannot be fetched.
    """
    fetched: FetchedFile | None = None
    if is_address(given):
        local = local_path(given)
        fetched = FetchedFile(given) if local is None else None
        given = str(local if fetched is None else fetched.path)
    yield open_video(given, every, max_frames)
    del fetched
