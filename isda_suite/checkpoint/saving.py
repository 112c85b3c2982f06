"""Write checkpoints so that the last good one survives whatever happens.

mmengine builds a whole file in memory and writes it under its final name, so a full disk or a kill
leaves half a file there. It has no table of savers to register in, unlike loaders, so
:func:`install_safe_saving` puts :func:`save_file` in the place of its function.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .atomic import save_checkpoint_atomically
from .errors import CheckpointWriteError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMOTE = '://'
_TEMPORARY = '*.pth.tmp-*'


def install_safe_saving() -> None:
    """Make mmengine's runners, strategies and hooks save through :func:`save_file`."""
    import mmengine.runner
    import mmengine.runner.checkpoint
    import mmengine.runner.runner

    original = mmengine.runner.checkpoint.save_checkpoint
    if getattr(original, 'is_safe', False):
        return

    def save_checkpoint(
        checkpoint: dict[str, Any],
        filename: str,
        file_client_args: dict[str, Any] | None = None,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        if file_client_args or backend_args or _REMOTE in str(filename):
            original(checkpoint, filename, file_client_args, backend_args)
        else:
            save_file(checkpoint, filename)

    save_checkpoint.is_safe = True  # type: ignore[attr-defined]
    # The package and the runner's module hold names of their own for the one function.
    modules: list[Any] = [mmengine.runner, mmengine.runner.checkpoint, mmengine.runner.runner]
    for module in modules:
        module.save_checkpoint = save_checkpoint


def save_file(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Save a checkpoint under its name only when it is complete.

    Args:
        checkpoint: What to save.
        path: Final name.

    Raises:
        CheckpointWriteError: if the disk or a quota is full, with the bytes needed and free. What
            was written of it is removed; an older file of that name stays.
    """
    try:
        save_checkpoint_atomically(checkpoint, path)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write of its archive as a RuntimeError with the OSError as cause.
        cause = next((e for e in _chain(error) if isinstance(e, OSError)), None)
        if cause is None or cause.errno not in _NO_SPACE:
            raise
        folder = Path(path).parent
        raise CheckpointWriteError(
            f'checkpoint {path} could not be saved: {os.strerror(cause.errno or 0)}. It needs '
            f'{_readable(size_of(checkpoint))}, {_readable(free_bytes(folder))} are free in '
            f'{folder}. Nothing of it was left there and older checkpoints were kept: make room '
            'and go on with --resume'
        ) from error


def size_of(content: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists, a little less than the file's."""
    return sum(t.numel() * t.element_size() for t in _tensors(content))


def free_bytes(folder: str | Path) -> int:
    """Return the bytes this user may still write on the disk of a folder."""
    return shutil.disk_usage(folder).free


def check_room(expected: int, folder: str | Path) -> str | None:
    """Return a warning if two checkpoints do not fit beside each other, which saving needs.

    Args:
        expected: Bytes of one checkpoint.
        folder: Where it will be saved.
    """
    free = free_bytes(folder)
    if free >= 2 * expected:
        return None
    return (
        f'{folder} has {_readable(free)} free; a checkpoint of this run takes about '
        f'{_readable(expected)}, and room for two is needed, because an old one is deleted only '
        'when the new one is complete'
    )


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what killed processes of this machine left of unfinished checkpoints.

    Args:
        folder: Folder of checkpoints.

    Returns:
        The removed files.
    """
    removed = []
    for file in Path(folder).glob(_TEMPORARY):
        owner = file.name.rpartition('-')[2]
        if owner.isdigit() and not Path(f'/proc/{owner}').exists():
            file.unlink(missing_ok=True)
            removed.append(file)
    return removed


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value)


def _readable(size: float) -> str:
    for unit in ('bytes', 'KB', 'MB'):
        if size < 1000:
            return f'{size:.0f} {unit}' if unit == 'bytes' else f'{size:.1f} {unit}'
        size /= 1000
    return f'{size:.1f} GB'
