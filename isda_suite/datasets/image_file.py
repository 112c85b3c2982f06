"""Decode an image file, or say in one sentence why that cannot be done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Array = NDArray[Any]
_TEXT_STARTS = (b'<!doctype', b'<html', b'<?xml', b'<head', b'{"', b'version https://git-lfs')


def missing_image(path: str) -> DataError:
    """Return the error for an image that is not there."""
    folder = Path(path).parent
    hint = '' if folder.is_dir() else f'; the folder {folder} does not exist either'
    return DataError(f'no image {path}{hint}: check data_root, data_prefix and file_name')


def fault_of_content(content: bytes) -> str:
    """Say what is probably wrong with bytes that are no image."""
    if not content:
        return 'the file is empty (0 bytes)'
    if content[:64].lstrip().lower().startswith(_TEXT_STARTS):
        start = content[:40].decode('ascii', 'replace')
        return f'it holds text, not an image ({start!r}): a failed download?'
    return f'its {len(content)} bytes cannot be decoded: cut off, or no image'


def check_size(path: str, found_hw: Sequence[int], expected_hw: Sequence[int]) -> None:
    """Compare an image's size with its annotation.

    Raises:
        DataError: if they differ.
    """
    if tuple(found_hw) != tuple(expected_hw):
        raise DataError(
            f'{path}: the image is (h, w) = {tuple(found_hw)}, its annotation says '
            f'{tuple(expected_hw)}: the masks belong to another version of the image'
        )


def read_image(path: str, flags: int | None = None) -> Array:
    """Read an image from the disk as it is stored: rotation tags (EXIF) are ignored, as COCO does.

    Args:
        path: The file.
        flags: OpenCV's flags; ``None`` reads 8-bit BGR.

    Returns:
        (H, W, 3) uint8 BGR, or what ``flags`` asks for.

    Raises:
        DataError: if the file is missing, empty, cut off or no image.
    """
    import cv2

    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise missing_image(path) from error
    if flags is None:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = None
    if content:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    if image is None:
        raise DataError(f'{path}: {fault_of_content(content)}')
    return np.asarray(image)


def read_as_predicted(path: str, size_hw: Sequence[int]) -> Array:
    """Read an image turned as it was when a model saw it, to draw the prediction over it.

    Our pipelines ignore rotation tags, those of mmdet and mmseg obey them.

    Args:
        path: The file.
        size_hw: Height and width the prediction has.

    Returns:
        (H, W, 3) uint8 BGR; obeying the tag only if the size fits just then.

    Raises:
        DataError: if the file cannot be read.
    """
    import cv2

    image = read_image(path)
    if image.shape[:2] == tuple(size_hw[:2]):
        return image
    return read_image(path, cv2.IMREAD_COLOR)
