"""Find and load the compiled library; explain it when there is none.

A missing, damaged or foreign library never breaks the import: the operators then run on the
reference, and one warning says why and what to do. ``ISDA_REQUIRE_OPS=1`` makes it an error.
``ISDA_OPS_LIBRARY`` names another library to load; if set but empty, none is loaded.
"""

import json
import mmap
import os
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from isda_suite.resources import resource_root

from . import toolchain
from .errors import OpsLibraryError

_MARKER = b'isda_suite build record '
_SCHEMAS = 3  # as in csrc/registration.cpp
_REMEDY = (
    'Build it with `python -m isda_suite.ops build` (needs a C++ compiler and ninja), or '
    '`pip install --no-build-isolation -e .` in a checkout.'
)


@dataclass(frozen=True)
class Library:
    """The library in use.

    Attributes:
        path: the loaded file, ``None`` if none could be loaded.
        reason: why none is loaded.
        record: what the library says about its own build.
    """

    path: Path | None = None
    reason: str | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def loaded(self) -> bool:
        """Whether the compiled operators are there."""
        return self.path is not None

    def note(self) -> str | None:
        """Return what the build noted beside the library about parts it left out."""
        return _read_note(self.path.parent) if self.path else None


def _read_note(folder: Path) -> str | None:
    try:
        entry = json.loads((folder / toolchain.RECORD_NAME).read_text())['reason']
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if entry is None else str(entry)


def cache_root() -> Path:
    """Return the folder of libraries built by ``python -m isda_suite.ops build``."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'isda_suite' / 'ops'


def cache_prefix(csrc: Path) -> str:
    """Return how cache folders that fit these sources and this torch begin."""
    return f'{toolchain.source_hash(csrc)}-torch{torch.__version__}-'


def _candidates() -> list[Path]:
    named = os.environ.get('ISDA_OPS_LIBRARY')
    if named is not None:
        return [Path(named)] if named else []
    packaged = Path(__file__).with_name(toolchain.LIBRARY_NAME)
    found = [packaged] if packaged.exists() else []
    root = cache_root()
    if root.is_dir():
        pattern = cache_prefix(resource_root() / 'csrc') + '*/*.so'
        found += sorted(root.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Read what a library says about its build, without loading it.

    Raises:
        ValueError: if the file is not a complete library of isda_suite.
        OSError: if it cannot be read.
    """
    with path.open('rb') as file:
        size = path.stat().st_size
        header = file.read(64)
        if len(header) < 64:
            raise ValueError(f'{path} is damaged: {size} bytes')
        if header[:5] == b'\x7fELF\x02':
            # The section table stands at the end: a truncated file lacks it, and loading one
            # would kill the process instead of raising.
            (offset,) = struct.unpack_from('<Q', header, 40)
            entry_size, entries = struct.unpack_from('<HH', header, 58)
            if offset + entry_size * entries > size:
                raise ValueError(f'{path} is damaged: it ends after {size} bytes')
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(_MARKER)
            end = content.find(b'\0', start)
            text = content[start + len(_MARKER) : end] if start >= 0 else b''
    try:
        record = json.loads(text)
    except ValueError:
        raise ValueError(f'{path} is damaged or not a library of isda_suite') from None
    return dict(record)


def _try_load(path: Path) -> Library:
    """Load one candidate, or say why not."""
    try:
        record = read_record(path)
        built = record['torch']
        if built != torch.__version__:
            return Library(reason=f'{path} was built for torch {built}, not {torch.__version__}')
        if record.get('schemas', 1) != _SCHEMAS:
            return Library(reason=f'{path} was built from other sources, with other operators')
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except (OSError, ValueError) as error:
        # Newer torch puts the loader's own words into the cause.
        return Library(reason=f'{path} cannot be loaded: {error.__cause__ or error}')
    return Library(path, None, record)


def _missing_reason() -> str:
    """Say why there is no library at all; the build may have left a note."""
    if os.environ.get('ISDA_OPS_LIBRARY') == '':
        return 'ISDA_OPS_LIBRARY is empty'
    return _read_note(Path(__file__).parent) or 'the operators have not been compiled'


def load() -> Library:
    """Load the first library that fits.

    Returns:
        The library, or an empty one that says why; then one warning was given.

    Raises:
        OpsLibraryError: if none fits and ``ISDA_REQUIRE_OPS=1``.
    """
    tried = []
    for path in _candidates():
        library = _try_load(path)
        if library.loaded:
            return library
        tried.append(str(library.reason))
    reason = '; '.join(tried) or _missing_reason()
    if toolchain.flag('ISDA_REQUIRE_OPS'):
        raise OpsLibraryError(f'ISDA_REQUIRE_OPS=1, but {reason}. {_REMEDY}')
    warnings.warn(
        f'isda_suite uses slower PyTorch operations for deformable attention: {reason}. {_REMEDY}',
        RuntimeWarning,
        stacklevel=2,
    )
    return Library(reason=reason)


LIBRARY = load()
