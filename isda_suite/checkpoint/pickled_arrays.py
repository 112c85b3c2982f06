"""Read weights that were pickled as numpy arrays (``.pkl``), without running anything in the file.

For weights, used by the converter only: no runner asks for such files.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .array_records import STAND_INS, finished
from .errors import CheckpointError, UnsafeCheckpointError
from .integrity import require_named_hash
from .safe_load import TRUST_FLAG, latin1_bytes

SUFFIXES = ('.pkl', '.pickle')
_STATE_KEYS = ('model', 'state_dict', 'blobs')
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **STAND_INS,
    ('collections', 'OrderedDict'): OrderedDict,
    ('_codecs', 'encode'): latin1_bytes,
}


class _Call:
    """A function of the list, made anew for every use: a pickle may change what it gets."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


# The reader in C makes room for as many objects as a file claims to hold.
class ArrayUnpickler(pickle._Unpickler):
    """Read numbers, texts, arrays, and lists and dicts of them."""

    # Set by the reader when it starts.
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        """Return what rebuilds an array.

        Raises:
            UnsafeCheckpointError: with the name of anything else that the file asks for.
        """
        try:
            return _Call(_ALLOWED[module, name])
        except KeyError:
            raise UnsafeCheckpointError(f'{module}.{name}') from None

    def load(self) -> Any:
        """Read the content."""
        return finished(super().load())

    def load_bytearray8(self) -> None:
        """Read as many bytes as there are; the inherited way fills as many as are claimed."""
        (size,) = struct.unpack('<Q', self.read(8))
        data = self.read(size)
        if len(data) < size:
            raise EOFError(f'{size} bytes are claimed, {len(data)} are left')
        self.append(bytearray(data))

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def load_pickled(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a pickled dict of arrays.

    Args:
        path: The file: a dict of name to array, or one that holds such a dict as ``model``.
        trust: Read a file that holds arbitrary Python objects; this runs code of its author.

    Returns:
        ``state_dict`` (name to tensor) and an empty ``meta``.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if the file names anything but arrays.
        CheckpointError: if it is damaged, holds no arrays, or is not what the hash in its name
            says.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f'checkpoint {file} does not exist (working directory {Path.cwd()})'
        )
    require_named_hash(file)
    reader = pickle.Unpickler if trust else ArrayUnpickler
    try:
        with file.open('rb') as stream:
            # Pickles of Python 2 hold names as bytes.
            content = reader(stream, encoding='latin1').load()
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f'checkpoint {file} was not loaded: it needs {error}, and only arrays are read from a '
            f'pickle. Only if you trust whoever made this file, give {TRUST_FLAG}'
        ) from None
    # A damaged pickle can raise anything, MemoryError too: it may tell of any size.
    except Exception as error:
        raise CheckpointError(
            f'checkpoint {file} ({file.stat().st_size} bytes) cannot be read: it is cut off or no '
            f'pickle of arrays ({type(error).__name__}: {error})'
        ) from error
    return {'state_dict': _tensors(content, file), 'meta': {}}


def _tensors(content: Any, file: Path) -> dict[str, torch.Tensor]:
    state: Any = content if isinstance(content, Mapping) else {}
    for key in _STATE_KEYS:
        if isinstance(state.get(key), Mapping):
            state = state[key]
            break
    arrays = {str(k): v for k, v in state.items() if isinstance(v, np.ndarray)}
    numbers = {k: v for k, v in arrays.items() if v.dtype.kind in 'biuf'}
    if not numbers:
        raise CheckpointError(f'checkpoint {file} holds no arrays of numbers')
    try:
        # In the byte order of this machine, which is the only one that torch takes.
        return {
            name: torch.from_numpy(array.astype(array.dtype.newbyteorder('=')))
            for name, array in numbers.items()
        }
    except TypeError as error:
        raise CheckpointError(f'checkpoint {file}: {error}') from error
