"""Tell whether the content of a file is what its name promises.

Published weights carry the start of their SHA-256 in their name (``isda-1a2b3c4d.pth``), as those
of torch.hub, mmdet and mmseg do.
"""

import hashlib
import re
from pathlib import Path

from .errors import CheckpointError

HASH_DIGITS = 8
_CHUNK = 1 << 20
_HASH_IN_NAME = re.compile(rf'-([0-9a-f]{{{HASH_DIGITS},64}})\.\w+$')


def hex_digest(path: Path, algorithm: str = 'sha256') -> str:
    """Return the hash of a file's content as hexadecimal digits.

    Args:
        path: The file.
        algorithm: A name that :mod:`hashlib` knows.
    """
    digest = hashlib.new(algorithm)
    with path.open('rb') as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_in_name(name: str) -> str | None:
    """Return the first digits of the SHA-256 that a file name states, ``None`` if it has none.

    Args:
        name: Name of the file, ending with ``-DIGITS.SUFFIX`` if it states them.
    """
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else None


def require_named_hash(file: Path) -> None:
    """Refuse a file whose content has another hash than its name states.

    Args:
        file: The file; a name without a hash is accepted.

    Raises:
        CheckpointError: naming both hashes.
    """
    stated = hash_in_name(file.name)
    if stated is None:
        return
    found = hex_digest(file)
    if not found.startswith(stated):
        raise CheckpointError(
            f'checkpoint {file} ({file.stat().st_size} bytes) is not what its name says: the '
            f'SHA-256 of its content starts with {found[: len(stated)]}, the name says {stated}. '
            'It was damaged or changed: copy or download it again. If these digits are no hash, '
            'rename the file'
        )
