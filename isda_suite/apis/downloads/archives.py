"""Unpack archives from outside: nothing leaves the folder, nothing explodes, all or nothing."""

import errno
import platform
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

_MAX_FILES = 1_000_000
_MAX_GROWTH = 50
_ALWAYS_ALLOWED = 64 * 2**20
#: Errors that are no fault of the archive.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2')


class UnsafeArchiveError(ValueError):
    """An archive that would write outside its folder, or far more than it should."""


def is_archive(path: str | Path) -> bool:
    """Whether the name is that of an archive which :func:`extract` unpacks."""
    return str(path).lower().endswith(SUFFIXES)


def extract(
    archive: str | Path,
    folder: str | Path,
    max_files: int = _MAX_FILES,
    max_bytes: int | None = None,
    progress: bool = False,
) -> int:
    """Unpack a zip or tar archive.

    Everything is unpacked into a temporary folder first and moved when it is complete; files of
    the same name are replaced, folders are merged.

    Args:
        archive: The file.
        folder: Where its content goes.
        max_files: Most entries it may hold.
        max_bytes: Most bytes it may unpack to; ``None`` for 50 times its size plus 64 MiB.
        progress: Whether to show a progress bar.

    Returns:
        The number of files.

    Raises:
        UnsafeArchiveError: if a name leads out of the folder, an entry is a link or a device, or
            a limit is exceeded.
        ValueError: if it is no whole archive.
    """
    archive, folder = Path(archive), Path(folder)
    if max_bytes is None:
        max_bytes = _MAX_GROWTH * archive.stat().st_size + _ALWAYS_ALLOWED
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{archive.name}.unpack-', dir=folder))
    try:
        unpack = _unpack_zip if archive.suffix.lower() == '.zip' else _unpack_tar
        with _explained(archive):
            judge = _Judge(archive, max_files, max_bytes)
            count = unpack(archive, temporary, judge, progress)
        _move_into(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """Tell what is wrong with an archive; a damaged one can raise anything in its reader."""
    try:
        yield
    except UnsafeArchiveError:
        raise
    except getattr(tarfile, 'FilterError', ()) as error:
        raise UnsafeArchiveError(f'{archive}: refused: {error}') from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise ValueError(
            f'{archive} ({archive.stat().st_size} bytes) is no whole archive, or one of a kind '
            f'that is not read ({type(error).__name__}: {error})'
        ) from error


class _Judge:
    """Look at every entry of an archive before the first one is written.

    Entries are looked at while they are listed, so that a list without end is not read to its end.
    """

    def __init__(self, archive: Path, max_files: int, max_bytes: int) -> None:
        self.archive, self.max_files, self.max_bytes = archive, max_files, max_bytes
        self.files = self.bytes = 0

    def admit(self, name: str, size: int, plain: bool) -> None:
        """Refuse an entry that leads out of the folder, is no file or folder, or is too much.

        Args:
            name: Its path in the archive.
            size: Bytes it unpacks to.
            plain: Whether it is a file or a folder. Links inside the folder would do no harm, but
                Python before 3.11.13 and 3.12.11 can be led astray by chains of them.
        """
        path = PurePosixPath(name.replace('\\', '/'))
        if path.is_absolute() or '..' in path.parts or ':' in (path.parts or ('',))[0]:
            raise UnsafeArchiveError(f'{self.archive}: entry {name!r} leads out of the folder')
        if not plain:
            raise UnsafeArchiveError(f'{self.archive}: entry {name!r} is a link or device')
        self.files += 1
        self.bytes += size
        if self.files > self.max_files:
            raise UnsafeArchiveError(
                f'{self.archive} holds more than {self.max_files} entries, the limit'
            )
        if self.bytes > self.max_bytes:
            raise UnsafeArchiveError(
                f'{self.archive} would unpack to {self.bytes} bytes or more; the limit is '
                f'{self.max_bytes}'
            )


def _bar(items: list[Any], archive: Path, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(items, f'unpacking {archive.name}', unit='file', disable=not progress)


def _unpack_zip(archive: Path, folder: Path, judge: _Judge, progress: bool) -> int:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            judge.admit(member.filename, member.file_size, _is_plain(member))
        for member in _bar(members, archive, progress):
            content.extract(member, folder)
    return sum(not member.is_dir() for member in members)


def _is_plain(member: zipfile.ZipInfo) -> bool:
    # The upper half of external_attr is the Unix mode, where one was stored.
    mode = member.external_attr >> 16
    return stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)


def _unpack_tar(archive: Path, folder: Path, judge: _Judge, progress: bool) -> int:
    if not hasattr(tarfile, 'data_filter'):
        raise UnsafeArchiveError(
            f'{archive}: Python {platform.python_version()} cannot unpack tar archives safely; '
            '3.10.12, 3.11.4 and later can'
        )
    with tarfile.open(archive) as content:
        members = []
        for member in content:
            judge.admit(member.name, member.size, member.isfile() or member.isdir())
            members.append(member)
        for member in _bar(members, archive, progress):
            content.extract(member, folder, filter='data')
    return sum(member.isfile() for member in members)


def _move_into(source: Path, target: Path) -> None:
    """Move the content of a folder into another one, merging folders (and links to folders)."""
    for entry in sorted(source.iterdir()):
        goal = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and goal.is_dir():
            _move_into(entry, goal)
            continue
        if goal.is_symlink():
            goal.unlink()
        elif goal.is_dir():
            raise ValueError(f'{goal} is a folder, but the archive holds a file of that name')
        # Not os.replace: a linked folder may lie on another disk.
        shutil.move(entry, goal)
