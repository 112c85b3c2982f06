"""Decode an image file, or say in one sentence why that cannot be done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .image_header import tiff_bands

Array = NDArray[Any]
#: Of an image that OpenCV decodes.
MAX_BANDS = 4
#: What the decoders' own errors say of images they find too large -> what to tell.
_TOO_LARGE = {
    'CV_IO_MAX_IMAGE': 'OpenCV decodes (2^30 in all, 2^20 a side; OPENCV_IO_MAX_IMAGE_PIXELS, '
    '_WIDTH and _HEIGHT in the environment raise that)',
    'decompression bomb': 'Pillow decodes (PIL.Image.MAX_IMAGE_PIXELS raises that)',
}
_TEXT_STARTS = (b'<!doctype', b'<html', b'<?xml', b'<head', b'{"', b'version https://git-lfs')


def missing_image(path: str) -> DataError:
    """Return the error for an image that is not there."""
    folder = Path(path).parent
    hint = '' if folder.is_dir() else f'; the folder {folder} does not exist either'
    return DataError(f'no image {path}{hint}: check data_root, data_prefix and file_name')


def fault_of_content(content: bytes, error: Exception | None = None) -> str:
    """Say what is probably wrong with bytes that are no image.

    Args:
        content: The bytes.
        error: What the decoder raised, if it did.
    """
    for sign, limit in _TOO_LARGE.items():
        if sign in str(error):
            return f'its header tells of more pixels than {limit}: cut it into tiles'
    fault = fault_of_start(content, 'an image')
    if fault is not None:
        return fault
    bands = tiff_bands(content)
    if bands is not None and bands > MAX_BANDS:
        return too_many_bands(bands)
    return f'its {len(content)} bytes cannot be decoded: cut off, or no image'


def fault_of_start(content: bytes, wanted: str) -> str | None:
    """Say what is wrong with a file that starts like nothing that could be decoded.

    Args:
        content: At least its first 64 bytes, if it has them.
        wanted: What it should be, with its article.

    Returns:
        The fault; ``None`` if the start tells of none.
    """
    if not content:
        return 'the file is empty (0 bytes)'
    if content[:64].lstrip().lower().startswith(_TEXT_STARTS):
        start = content[:40].decode('ascii', 'replace')
        return f'it holds text, not {wanted} ({start!r}): a failed download?'
    return None


def too_many_bands(bands: int) -> str:
    """Say that an image has more bands than can be read, and what to do.

    Args:
        bands: How many it has.
    """
    return (
        f'it has {bands} bands, at most {MAX_BANDS} can be read: write the three to be used into a '
        'file of 8 bits (gdal_translate -b 1 -b 2 -b 3 -ot Byte -scale IN OUT)'
    )


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


def read_content(path: str) -> bytes:
    """Read the bytes of an image from the disk.

    Raises:
        DataError: if there is no such file.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise missing_image(path) from error


def decode_image(content: bytes, path: str, flags: int | None = None) -> Array:
    """Decode an image as it is stored: rotation tags (EXIF) are ignored, as COCO does.

    Args:
        content: The file's bytes.
        path: The file, for messages.
        flags: OpenCV's flags; ``None`` reads 8-bit BGR.

    Returns:
        (H, W, 3) uint8 BGR, or what ``flags`` asks for.

    Raises:
        DataError: if the content is empty, cut off or no image.
    """
    import cv2

    if flags is None:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = None
    try:
        if content:
            image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error as error:
        raise DataError(f'{path}: {fault_of_content(content, error)}') from error
    if image is None:
        raise DataError(f'{path}: {fault_of_content(content)}')
    return np.asarray(image)


def read_image(path: str, flags: int | None = None) -> Array:
    """Read an image from the disk.

    Args:
        path: The file.
        flags: As for :func:`decode_image`.

    Returns:
        As :func:`decode_image`.

    Raises:
        DataError: if the file is missing, empty, cut off or no image.
    """
    return decode_image(read_content(path), path, flags)


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
