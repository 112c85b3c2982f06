"""Read weights that were pickled as numpy arrays (``.pkl``), without running anything in the file.

For weights, used by the converter only: no runner asks for such files.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray, numeric

from .errors import CheckpointError, UnsafeCheckpointError
from .integrity import require_named_hash
from .safe_load import TRUST_FLAG, latin1_bytes

SUFFIXES = ('.pkl', '.pickle')
_STATE_KEYS = ('model', 'state_dict', 'blobs')
_REBUILDERS: dict[str, Callable[..., Any]] = {
    '_reconstruct': multiarray._reconstruct,
    'scalar': multiarray.scalar,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('collections', 'OrderedDict'): OrderedDict,
    ('_codecs', 'encode'): latin1_bytes,
    **{
        (module, name): function
        for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
        for name, function in _REBUILDERS.items()
    },
    ('numpy.core.numeric', '_frombuffer'): vars(numeric)['_frombuffer'],
    ('numpy._core.numeric', '_frombuffer'): vars(numeric)['_frombuffer'],
}


class ArrayUnpickler(pickle.Unpickler):
    """Read numbers, texts, arrays, and lists and dicts of them."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what rebuilds an array.

        Raises:
            UnsafeCheckpointError: with the name of anything else that the file asks for.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafeCheckpointError(f'{module}.{name}') from None


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
    return {name: torch.from_numpy(np.array(array)) for name, array in numbers.items()}
