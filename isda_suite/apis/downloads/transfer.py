"""Fetch one file over https: resumed, checked, whole or absent."""

import http.client
import shutil
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from isda_suite.checkpoint.integrity import hex_digest

from .dataset_sources import Source

_CHUNK = 1 << 20
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(OSError):
    """A file that could not be fetched, or is not the one that was expected."""


class _TransientError(Exception):
    """Something that may go well at the next try."""


@dataclass(frozen=True)
class TransferOptions:
    """How files are fetched.

    Args:
        allow_http: Whether plain http is allowed, for servers in a local network.
        timeout_s: Seconds without a byte after which a try is given up.
        num_tries: Tries a file; each goes on where the last one stopped.
        pause_s: Seconds between tries, doubled each time.
        progress: Whether to show a progress bar.
        max_bytes: Larger files are refused; ``None`` takes any.
        keeps_part: Whether what has arrived is kept for the next call.
    """

    allow_http: bool = False
    timeout_s: float = 60.0
    num_tries: int = 4
    pause_s: float = 1.0
    progress: bool = True
    max_bytes: int | None = None
    keeps_part: bool = True


class _SameSchemeRedirects(urllib.request.HTTPRedirectHandler):
    """Refuse a redirect from https to anything else."""

    def __init__(self, options: TransferOptions) -> None:
        self.options = options

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        check_scheme(newurl, self.options)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_scheme(url: str, options: TransferOptions) -> None:
    """Refuse addresses that are not https.

    Raises:
        DownloadError: if the address is not allowed.
    """
    allowed = ('https', 'http') if options.allow_http else ('https',)
    if urlparse(url).scheme not in allowed:
        raise DownloadError(f'{url}: only https is allowed')


def file_digest(path: Path, algorithm: str = 'sha256') -> str:
    """Return ``'algorithm:hex'`` of a file."""
    return f'{algorithm}:{hex_digest(path, algorithm)}'


def verify(path: Path, size: int | None, digest: str | None) -> None:
    """Compare a file with what is known about it.

    Raises:
        DownloadError: if size or hash differ.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise DownloadError(f'{path.name}: {found_size} bytes, expected {size}')
    if digest is not None:
        found = file_digest(path, digest.partition(':')[0])
        if found != digest:
            raise DownloadError(f'{path.name}: hash {found}, expected {digest}')


def fetch(
    source: Source, target: Path, options: TransferOptions, stop: threading.Event | None = None
) -> None:
    """Fetch a file; ``target`` appears only when it is complete and right.

    What has arrived is kept in ``target.part`` when the connection breaks, and the next call goes
    on there if the server can and the file has not changed.

    Args:
        source: What to fetch, with its size and hash where known.
        target: Where it goes.
        options: How.
        stop: Ends the transfer early when set.

    Raises:
        DownloadError: if it cannot be fetched, or size or hash are wrong.
    """
    check_scheme(source.url, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + '.part')
    _check_space(source, part)
    for attempt in range(options.num_tries):
        try:
            _continue_part(source, part, options, stop or threading.Event())
            break
        except _TransientError as error:
            if attempt + 1 == options.num_tries:
                have = part.stat().st_size if part.exists() else 0
                kept = f'; the first {have} bytes are kept, the same command goes on from there'
                raise DownloadError(
                    f'{source.url}: {error} ({options.num_tries} tries)'
                    f'{kept if options.keeps_part else ""}'
                ) from error
            time.sleep(options.pause_s * 2**attempt)
    try:
        verify(part, source.size, source.digest)
    except DownloadError as error:
        _validator_of(part).unlink(missing_ok=True)
        part.unlink()
        raise DownloadError(
            f'{source.url}: {error}; the file is not kept: the server sent something else, or the '
            'transfer was damaged'
        ) from error
    part.replace(target)
    _validator_of(part).unlink(missing_ok=True)


def _check_space(source: Source, part: Path) -> None:
    if source.size is None:
        return
    needed = source.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f'{source.url}: needs {needed} more bytes, but the disk of {part.parent} has {free}'
        )


def _validator_of(part: Path) -> Path:
    """Return the file that keeps the server's mark of the version a part belongs to."""
    return part.with_name(part.name + '.version')


def _continue_part(
    source: Source, part: Path, options: TransferOptions, stop: threading.Event
) -> None:
    """Add to the part what is missing; raise ``_TransientError`` when it stays incomplete."""
    have = part.stat().st_size if part.exists() else 0
    if source.size is not None and have == source.size:
        return
    request = urllib.request.Request(source.url, headers={'User-Agent': 'isda_suite'})
    validator = _validator_of(part)
    if have and validator.exists():
        request.add_header('Range', f'bytes={have}-')
        # The server sends the whole file instead if it is another version by now.
        request.add_header('If-Range', validator.read_text())
    opener = urllib.request.build_opener(_SameSchemeRedirects(options))
    try:
        with opener.open(request, timeout=options.timeout_s) as response:
            start = _start_of(response, have)
            _remember_version(response, validator)
            _copy(response, part, start, source, options, stop)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            # The part is longer than the file: it belongs to something else.
            part.unlink(missing_ok=True)
            validator.unlink(missing_ok=True)
        if error.code == 416 or error.code in _RETRIED_STATUS:
            raise _TransientError(f'the server answered {error.code} {error.reason}') from error
        raise DownloadError(
            f'{source.url}: the server answered {error.code} {error.reason}'
        ) from error
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', error)
        raise _TransientError(f'{type(error).__name__}: {reason}') from error


def _start_of(response: Any, have: int) -> int:
    """Return the position of the first byte the server sends."""
    if response.status != 206:
        return 0
    sent = str(response.headers.get('Content-Range', '')).removeprefix('bytes ')
    if sent.partition('-')[0] != str(have):
        raise _TransientError(f'the server sent the range {sent!r} instead of the rest')
    return have


def _remember_version(response: Any, validator: Path) -> None:
    tag = response.headers.get('ETag')
    # A weak tag does not promise equal bytes.
    mark = tag if tag and not tag.startswith('W/') else response.headers.get('Last-Modified')
    if mark:
        validator.write_text(mark)
    else:
        validator.unlink(missing_ok=True)


def _copy(
    response: Any,
    part: Path,
    start: int,
    source: Source,
    options: TransferOptions,
    stop: threading.Event,
) -> None:
    from tqdm import tqdm

    length = response.headers.get('Content-Length')
    total = start + int(length) if length is not None else source.size
    if source.size is not None and total is not None and total > source.size:
        raise DownloadError(f'{source.url}: the server sends {total} bytes, expected {source.size}')
    limit = options.max_bytes
    if limit is not None and total is not None and total > limit:
        raise DownloadError(f'{source.url}: {total} bytes, more than the {limit} allowed')
    bar = tqdm(
        desc=source.file_name,
        total=total,
        initial=start,
        unit='B',
        unit_scale=True,
        disable=not options.progress,
    )
    have = start
    with bar, part.open('r+b' if start else 'wb') as file:
        file.seek(start)
        file.truncate()
        while chunk := response.read(_CHUNK):
            if stop.is_set():
                raise DownloadError(f'{source.url}: stopped; the same command goes on')
            if total is not None and have + len(chunk) > total:
                raise DownloadError(f'{source.url}: the server sends more than {total} bytes')
            if limit is not None and have + len(chunk) > limit:
                raise DownloadError(f'{source.url}: more than the {limit} bytes allowed')
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    if total is not None and have < total:
        raise _TransientError(f'the connection ended after {have} of {total} bytes')
