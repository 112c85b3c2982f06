"""Write files so that a name never stands for half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def write_atomically(path: str | Path, text: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing that appears under its name only when it is complete.

    The content goes to ``NAME.tmp-PID`` in the same folder, is flushed to the disk, and then takes
    the final name in one step. If the block raises, or the process is killed, an older file of
    that name stays as it was; after an error the temporary file is removed.

    Args:
        path: Final name; missing parent folders are made. A link is followed.
        text: Open for UTF-8 text instead of bytes.

    Yields:
        The open temporary file.
    """
    final = Path(os.path.realpath(Path(path).expanduser()))
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f'{final.name}.tmp-{os.getpid()}')
    try:
        with temporary.open('w' if text else 'wb', encoding='utf-8' if text else None) as file:
            yield file
        put_in_place(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a complete file its final name in one step, when its content is on the disk.

    Args:
        temporary: The file, on the same disk.
        final: Its name from now on; an older file of that name is replaced.
    """
    with temporary.open('rb+') as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    _sync_folder(final.parent)


def save_checkpoint_atomically(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Save a checkpoint with ``torch.save`` so that an older file survives any failure.

    Args:
        checkpoint: What to save.
        path: Final name.
    """
    import torch

    with write_atomically(path) as file:
        torch.save(checkpoint, file)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; not every file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
