"""Find the newest complete checkpoint of a work dir, and name it in the pointer file.

The pointer ``last_checkpoint`` holds a bare file name, so that a folder may be moved. It is
believed only when it names a complete file; otherwise the newest complete one is taken.
"""

import re
import zipfile
from pathlib import Path

from mmengine.logging import print_log

from .atomic import write_atomically
from .errors import CheckpointError

POINTER = 'last_checkpoint'
PREEMPTED = 'preempted.pth'
_STEP = re.compile(r'^(?:epoch|iter)_(\d+)\.pth$')


def write_pointer(work_dir: str | Path, checkpoint: str | Path) -> None:
    """Name the checkpoint that a resumed run starts from.

    Args:
        work_dir: Folder of the run.
        checkpoint: The file (or the folder of a sharded one); its bare name is written when it
            lies in ``work_dir``.
    """
    folder, target = Path(work_dir), Path(checkpoint)
    inside = target.parent.resolve() == folder.resolve()
    with write_atomically(folder / POINTER, text=True) as file:
        file.write(target.name if inside else str(target.resolve()))


def find_newest(work_dir: str | Path) -> Path | None:
    """Return the checkpoint to resume from: the pointer's, else the newest complete one.

    Files that are cut off are renamed to ``NAME.corrupt`` and named in the log.

    Args:
        work_dir: Folder of the run.

    Returns:
        The file, or the folder of a sharded checkpoint; None if nothing was saved there yet.

    Raises:
        CheckpointError: if there are checkpoints, but none is complete.
    """
    folder = Path(work_dir)
    damaged = []
    for path in _candidates(folder):
        if path.is_dir() or is_complete(path):
            return path
        damaged.append(_set_aside(path))
    if damaged:
        raise CheckpointError(
            f'no checkpoint in {folder} is complete: {", ".join(damaged)}; give the path of '
            'another one with --resume PATH, or remove these to start from the beginning'
        )
    return None


def is_complete(path: Path) -> bool:
    """Tell whether a file is whole: a zip archive of ``torch.save`` with its table of contents.

    The table stands at the very end, so a file that was cut off anywhere has none. Files of the
    format before torch 1.6 have none either and are not recognised.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith('/data.pkl') for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _candidates(folder: Path) -> list[Path]:
    """List existing checkpoints, the most wanted first."""
    pointed = _pointed(folder)
    numbered = [path for path in folder.glob('*.pth') if _STEP.match(path.name)]
    numbered.sort(key=lambda path: (_number(path), path.stat().st_mtime), reverse=True)
    return list(dict.fromkeys([*pointed, *numbered]))


def _pointed(folder: Path) -> list[Path]:
    pointer = folder / POINTER
    if not pointer.is_file():
        return []
    text = pointer.read_text(errors='replace').strip().strip('\0')
    if not text:
        return []
    # The name in this folder first: the path in a copied folder is that of the original.
    places = [folder / Path(text).name, folder / text]
    return [place for place in places if place.exists()][:1]


def _number(path: Path) -> int:
    found = _STEP.match(path.name)
    return int(found[1]) if found else -1


def _set_aside(path: Path) -> str:
    aside = path.with_name(f'{path.name}.corrupt')
    try:
        size = path.stat().st_size
        path.replace(aside)
    except FileNotFoundError:  # another rank was faster
        return aside.name
    print_log(
        f'{path} is cut off or damaged ({size} bytes): renamed to {aside.name}, an older '
        'checkpoint is taken',
        logger='current',
        level=30,
    )
    return aside.name
