"""Write a generated data set into a folder that is either whole or absent."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from .scene import Array

STAMP_NAME = 'sample_version.json'
_JPEG_QUALITY = 92


def is_written(root: Path, stamp: dict[str, Any], files: Mapping[str, int]) -> bool:
    """Say whether a folder holds what the same arguments have written.

    Args:
        root: The folder.
        stamp: The arguments.
        files: Pattern below the folder -> how many files it fits.
    """
    path = root / STAMP_NAME
    if not path.is_file():
        return False
    try:
        same = json.loads(path.read_text()) == stamp
    except ValueError:
        return False
    return same and all(len(list(root.glob(key))) == count for key, count in files.items())


@contextmanager
def new_folder(root: Path, stamp: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder that becomes ``root``, with the stamp in it, when the block ends well.

    Raises:
        FileExistsError: if ``root`` holds something that was not written this way.
    """
    if root.exists() and not (root / STAMP_NAME).is_file() and any(root.iterdir()):
        raise FileExistsError(
            f'{root} is not empty and was not written by the sample generator '
            f'(no {STAMP_NAME} in it): choose another folder or remove it'
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = root.with_name(f'.{root.name}.tmp-{os.getpid()}')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        (folder / STAMP_NAME).write_text(json.dumps(stamp, indent=1) + '\n')
        if root.exists():
            shutil.rmtree(root)
        folder.rename(root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def progress_bar(total: int, unit: str, progress: bool) -> Any:
    """Return a progress bar, silent unless it is wanted."""
    from tqdm import tqdm

    return tqdm(total=total, desc='writing the sample data set', unit=unit, disable=not progress)


def write_image(path: Path, image: Array) -> None:
    """Write an image in the format of its name.

    Raises:
        OSError: if it cannot be encoded.
    """
    done, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise OSError(f'OpenCV could not encode {path.name}')
    path.write_bytes(data.tobytes())
