"""Which files a data set of images and label images finds in its folders."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

_IMAGES = frozenset('.jpg .jpeg .png .tif .tiff .bmp .webp .jp2 .gif .ppm .pgm'.split())


def files_below(folder: str) -> set[str]:
    """Return the files in a folder and below, as paths that begin with ``folder``."""
    found: set[str] = set()
    for place, _, names in os.walk(folder, followlinks=True):
        found.update(os.path.normpath(os.path.join(place, name)) for name in names)
    return found


def is_remote(dataset: Any) -> bool:
    """Say whether the files lie behind a file client that is not the disk's."""
    client = (dataset.backend_args or {}).get('backend', 'local')
    return client != 'local' or any('://' in str(one) for one in dataset.data_prefix.values())


def nothing_left(dataset: Any) -> str:
    """Say why a data set has no image: what it looked for and what is there instead.

    Args:
        dataset: A data set of mmseg or ours whose list of samples is empty.
    """
    if dataset.ann_file and os.path.isfile(dataset.ann_file):
        return (
            f'0 images left: the list {dataset.ann_file} names none; it holds one name without '
            f'suffix a line, for *{dataset.img_suffix} in {dataset.data_prefix.get("img_path")}'
        )
    folder = str(dataset.data_prefix.get('img_path', ''))
    if is_remote(dataset):
        return f'0 images left: nothing in {folder} ends with {dataset.img_suffix}'
    images = sum(Path(file).suffix.lower() in _IMAGES for file in files_below(folder))
    return f'0 of {images} images left: {looked_for(folder, dataset.img_suffix, "img_suffix")}'


def looked_for(folder: str, suffix: str, option: str) -> str:
    """Say what was looked for in a folder and what it holds.

    Args:
        folder: The folder.
        suffix: End of the names that were looked for.
        option: Argument of the data set that changes the suffix.
    """
    files = sorted(files_below(folder))
    kinds = Counter(Path(file).suffix or 'files without a suffix' for file in files)
    held = ', '.join(f'{count} *{kind}' for kind, count in kinds.most_common(3))
    example = f', such as {os.path.relpath(files[0], folder)}' if files else ''
    return (
        f'looked in {folder} for *{suffix}; the folder holds {held or "no files"}{example} '
        f'(the option {option} of the data set says how names end)'
    )
