"""Weights and a plain ``meta`` in a ``.safetensors`` file, which cannot hold code.

The header of such a file has room for texts only, so ``meta`` goes there as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import CheckpointError

SUFFIX = '.safetensors'
# The one key of the header: with several their order, and with it the hash of the file, would
# change from one writing to the next.
_META_KEY = 'isda_suite_meta'


def read_safetensors(file: Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint; files of other programs have an empty ``meta``.

    Args:
        file: The file.
        map_location: Device of the tensors; anything but a device or its name means the CPU.

    Returns:
        ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: if the file is cut off, damaged, or of another kind.
    """
    device = str(map_location) if isinstance(map_location, str | torch.device) else 'cpu'
    try:
        with safe_open(file, framework='pt', device=device) as content:
            state = {name: content.get_tensor(name) for name in content.keys()}
            meta = json.loads((content.metadata() or {}).get(_META_KEY, '{}'))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise CheckpointError(
            f'checkpoint {file} ({file.stat().st_size} bytes) is not a complete safetensors '
            f'file: {error}. Copy or download it again'
        ) from error
    if not isinstance(meta, dict):
        raise CheckpointError(
            f'checkpoint {file}: {_META_KEY} in its header is a {type(meta).__name__}, expected '
            'an object'
        )
    return {'state_dict': state, 'meta': meta}


def write_safetensors(state: Mapping[str, Tensor], meta: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint; equal content gives equal bytes.

    Args:
        state: Entry name to tensor. No two of them may share memory; see :func:`separate`.
        meta: Numbers, texts, lists and dicts of them.
        file: The file; not atomic.
    """
    # The library's own writer of files makes them readable for their owner alone.
    file.write_bytes(save(dict(state), {_META_KEY: json.dumps(meta)}))


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every entry memory of its own.

    Tied weights have several names for one memory, which the format forbids. Each name keeps its
    values, so that any reader finds all entries; the model ties them again.

    Args:
        state: Entry name to tensor.

    Returns:
        The same entries, contiguous copies on the CPU.

    Raises:
        CheckpointError: naming entries the format has no place for: sparse and quantized ones.
    """
    odd = [name for name, t in state.items() if t.layout is not torch.strided or t.is_quantized]
    if odd:
        raise CheckpointError(f'{", ".join(odd[:5])}: sparse or quantized, expected plain tensors')
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
