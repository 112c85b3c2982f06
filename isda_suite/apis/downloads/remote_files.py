"""Fetch a picture or a video from an address into a temporary file."""

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

from isda_suite.datasets.errors import DataError

from .dataset_sources import Source
from .transfer import DownloadError, TransferOptions, fetch

#: Of one file.
MAX_MB = 1024
_FETCHED = ('http', 'https')
_TIMEOUT_S, _NUM_TRIES, _PAUSE_S = 30.0, 3, 1.0


class FetchedFile:
    """A file from an address, which is removed when nothing refers to this object any more.

    Args:
        url: ``http://…`` or ``https://…``.
        max_mb: Larger files are refused.

    Attributes:
        path: The file.

    Raises:
        DataError: if it cannot be fetched, or is too large.
    """

    def __init__(self, url: str, max_mb: int = MAX_MB) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='isda_suite_')
        self.path = Path(self._folder.name) / file_name(url)
        is_plain = urlparse(url).scheme.lower() == 'http'
        options = TransferOptions(
            allow_http=is_plain,
            timeout_s=_TIMEOUT_S,
            num_tries=_NUM_TRIES,
            pause_s=_PAUSE_S,
            progress=False,
            max_bytes=max_mb << 20,
            keeps_part=False,
        )
        try:
            fetch(Source(url), self.path, options)
        except DownloadError as error:
            self._folder.cleanup()
            raise DataError(str(error)) from error


def file_name(url: str) -> str:
    """Return the last part of an address's path, as a name that any folder can hold."""
    name = Path(unquote(urlparse(url).path)).name
    plain = ''.join(sign for sign in name if sign.isprintable() and sign not in '\\/:')[-100:]
    return plain.lstrip('.') or 'download'


def is_address(text: str) -> bool:
    """Tell whether a text is an address and no path, as that of a Windows drive is."""
    return '://' in text and len(urlparse(text).scheme) > 1


def local_path(url: str) -> Path | None:
    """Return the path that a ``file://`` address names; ``None`` of one to be fetched.

    Raises:
        DataError: if the address is of another kind, or of another machine.
    """
    parts = urlparse(url)
    scheme = parts.scheme.lower()
    if scheme in _FETCHED:
        return None
    if scheme != 'file':
        raise DataError(f'{url}: addresses begin with https://, http:// or file://')
    if parts.netloc not in ('', 'localhost'):
        raise DataError(f'{url}: it names the machine {parts.netloc!r}: write file:///path')
    return Path(url2pathname(parts.path))
