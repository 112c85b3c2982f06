"""Download data sets: resumed, checked, unpacked safely, with honest errors."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isda_suite.checkpoint.atomic import write_atomically

from .archives import extract, is_archive
from .dataset_sources import SOURCES, Source
from .transfer import DownloadError, TransferOptions, fetch, file_digest, verify

LOCK_NAME = 'downloads.lock.json'


class LockFile:
    """Remember the size and hash of every file that was fetched, and what was unpacked.

    Where the owner of a data set publishes no hash, the first download's is the one that later
    downloads of the same address must have. The file can be shared to pin a team to one version.

    Args:
        folder: Folder in which the lock file lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._guard = threading.Lock()
        self._entries: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                self._entries = json.loads(self.path.read_text())
            except ValueError as error:
                raise DownloadError(
                    f'{self.path} is not a whole json file: repair or remove it'
                ) from error
            if not isinstance(self._entries, dict):
                raise DownloadError(f'{self.path} is not a table of files: repair or remove it')

    def entry(self, source: Source) -> dict[str, Any]:
        """Return what is known of a file, empty if it was never fetched from this address."""
        entry = self._entries.get(source.file_name, {})
        return entry if entry.get('url') == source.url else {}

    def update(self, source: Source, **values: Any) -> None:
        """Store facts about a file."""
        with self._guard:
            self._entries[source.file_name] = {'url': source.url, **self.entry(source), **values}
            with write_atomically(self.path, text=True) as file:
                file.write(json.dumps(self._entries, indent=1, sort_keys=True) + '\n')


@dataclass(frozen=True)
class DownloadOptions:
    """What to do with the files.

    Args:
        unzip: Whether to unpack archives.
        delete: Whether to remove an archive after unpacking.
        threads: Files fetched at the same time.
        transfer: How each is fetched.
    """

    unzip: bool = False
    delete: bool = False
    threads: int = 4
    transfer: TransferOptions = field(default_factory=TransferOptions)


def sources_of(name: str) -> Sequence[Source]:
    """Return the files of a data set.

    Raises:
        KeyError: if the name is unknown; lists the known ones.
    """
    if name not in SOURCES:
        raise KeyError(f'unknown data set {name!r}; known are: {", ".join(sorted(SOURCES))}')
    return SOURCES[name].files


def download_all(
    sources: Sequence[Source], save_dir: str | Path, options: DownloadOptions | None = None
) -> dict[str, Exception]:
    """Fetch files, several at a time; one that fails does not stop the others.

    Args:
        sources: The files.
        save_dir: Folder for them.
        options: What to do with them.

    Returns:
        File name -> error of every file that failed; empty when all is well.

    Raises:
        DownloadError: if the lock file in ``save_dir`` is broken.
    """
    options = options or DownloadOptions()
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = LockFile(folder)
    stop = threading.Event()
    errors: dict[str, Exception] = {}
    with ThreadPoolExecutor(max_workers=max(1, options.threads)) as pool:
        running = {
            source.file_name: pool.submit(_obtain, source, folder, lock, options, stop)
            for source in sources
        }
        try:
            for name, future in running.items():
                error = future.exception()
                if isinstance(error, Exception):
                    errors[name] = error
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return errors


def _obtain(
    source: Source, folder: Path, lock: LockFile, options: DownloadOptions, stop: threading.Event
) -> None:
    """Fetch, check and unpack one file, leaving out what is done already."""
    target = folder / source.file_name
    known = lock.entry(source)
    unpack = options.unzip and is_archive(target)
    if not target.exists() and not (unpack and known.get('unpacked')):
        expected = Source(
            source.url, source.size or known.get('size'), source.digest or known.get('digest')
        )
        fetch(expected, target, options.transfer, stop)
        lock.update(source, **_facts(target), unpacked=False)
    elif target.exists():
        _check_present(target, source, lock)
    if unpack and not lock.entry(source).get('unpacked'):
        extract(target, folder / source.folder, progress=options.transfer.progress)
        lock.update(source, unpacked=True)
    if unpack and options.delete:
        target.unlink(missing_ok=True)


def _facts(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {'size': status.st_size, 'mtime_ns': status.st_mtime_ns, 'digest': file_digest(path)}


def _check_present(target: Path, source: Source, lock: LockFile) -> None:
    """Check a file that is there already; one that was checked and not touched is trusted."""
    known, status = lock.entry(source), target.stat()
    if (known.get('size'), known.get('mtime_ns')) == (status.st_size, status.st_mtime_ns):
        return
    try:
        verify(target, source.size or known.get('size'), source.digest or known.get('digest'))
    except DownloadError as error:
        raise DownloadError(f'{error}; the file was there before: move it away') from error
    lock.update(source, **_facts(target))
