"""Write the local split of a video data set."""

import json
from pathlib import Path

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.datasets.annotation_file import read_annotation_file
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.hold_out import split_videos


def hold_out(
    ann_file: str | Path, share: float = 0.1, seed: int = 0, out_dir: str | Path | None = None
) -> tuple[Path, Path]:
    """Write two annotation files beside one: ``NAME_kept.json`` and ``NAME_held_out.json``.

    Frames stay where they are: both files name those of the whole.

    Args:
        ann_file: YouTube-VIS json with annotations.
        share: Part of the videos to hold out.
        seed: Another seed chooses other videos.
        out_dir: Where the files go; ``None`` means beside ``ann_file``.

    Returns:
        The files of what stays and of what is held out; each is whole or absent.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the share is not between 0 and 1.
        DataError: if it is no YouTube-VIS json, or cannot be split.
    """
    ann_file = Path(ann_file)
    content = read_annotation_file(ann_file, 'YouTube-VIS', ('videos', 'categories'))
    if 'annotations' not in content:
        raise DataError(f'{ann_file} has no annotations to evaluate on: split the training file')
    parts = split_videos(content, share, seed)
    folder = ann_file.parent if out_dir is None else Path(out_dir)
    paths = tuple(folder / f'{ann_file.stem}_{what}.json' for what in ('kept', 'held_out'))
    for path, part in zip(paths, parts, strict=True):
        with write_atomically(path, text=True) as file:
            json.dump(part, file)
    return paths[0], paths[1]
