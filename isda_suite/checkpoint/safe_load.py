"""Read checkpoints as data: nothing inside a file is ever executed.

``torch.load`` with ``weights_only=True`` refuses every Python object that is not on a list. The
list below is what mmengine's own checkpoints need (log buffers, counters, numpy values) and
``argparse.Namespace``, which DETR-style files carry. mmengine catches the refusal and loads the
file again with code execution; :func:`install_safe_loading` replaces its loaders by ours, which
never do.

A checkpoint may also hold the text of a config, and a config is a program: ``Runner.resume`` runs
``meta['config']``, mmengine's inferencers run the text they find in ``meta['cfg']`` or in the
message hub. :func:`load_file` renames these texts to ``meta['config_text']``, where nothing looks
for code.
"""

import argparse
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.logging import HistoryBuffer, print_log

from .array_records import STAND_INS, ArrayRecord, DtypeRecord, finished
from .errors import CheckpointError, UnsafeCheckpointError
from .integrity import require_named_hash
from .safetensors_file import SUFFIX as SAFETENSORS
from .safetensors_file import read_safetensors

TRUST_FLAG = '--trust-checkpoint'
_CONFIG_KEYS = ('config', 'cfg')


def load_file(path: str | Path, trust: bool = False, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file without running anything in it.

    Args:
        path: A ``.pth`` file of ``torch.save``, or a ``.safetensors`` file. A hash in its name
            (``isda-1a2b3c4d.pth``) is compared with the content.
        trust: Read a file that holds arbitrary Python objects; this runs code of its author.
        map_location: Where tensors go, as in ``torch.load``.

    Returns:
        The content. Texts of configs in it are moved to ``meta['config_text']``.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if the file needs an object that is not on the list of safe ones.
        CheckpointError: if the file is empty, cut off, not a checkpoint, or not what the hash in
            its name says.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        kind = 'is a folder' if file.is_dir() else 'does not exist'
        raise FileNotFoundError(
            f'checkpoint {file} {kind} (working directory {Path.cwd()}): give the path of a '
            '.pth or .safetensors file'
        )
    require_named_hash(file)
    if file.suffix == SAFETENSORS:
        return _without_programs(read_safetensors(file, map_location))
    with file.open('rb') as stream:
        return load_stream(stream, str(file), trust=trust, map_location=map_location)


def install_safe_loading(trust: bool = False) -> None:
    """Make every loading of weights through mmengine go through :func:`load_file`.

    Covers ``Runner.resume``, ``load_from``, ``load_checkpoint`` and
    ``init_cfg=dict(type='Pretrained')`` of models of mmdet and mmseg. Call it once at the start of
    a program, and again to change ``trust``.

    Args:
        trust: Let files run code (``--trust-checkpoint``).
    """
    from .mmengine_schemes import register_safe_schemes  # loads the runner: seconds

    register_safe_schemes(trust)


def load_stream(
    stream: BinaryIO, name: str, trust: bool = False, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read a checkpoint from an open file; see :func:`load_file`.

    Args:
        stream: Seekable binary file at its start.
        name: What messages call it.
        trust: Read arbitrary Python objects.
        map_location: Where tensors go.

    Returns:
        The content.

    Raises:
        UnsafeCheckpointError: if the file needs an object that is not on the list of safe ones.
        CheckpointError: if the file is empty, cut off, or not a checkpoint.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise CheckpointError(f'checkpoint {name} is empty (0 bytes): copy or download it again')
    if trust:
        print_log(f'{TRUST_FLAG}: {name} may run any code it holds', logger='current')
    try:
        with _safe_globals(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')  # refused below anyway
            content = torch.load(stream, map_location=map_location, weights_only=not trust)
        content = finished(content)
    # A damaged file can raise anything in the readers below, MemoryError too: it may tell of any
    # size.
    except Exception as error:
        blocked = [] if trust else _blocked_objects(error, stream)
        if blocked:
            raise _unsafe(name, blocked) from error
        raise _damaged(name, size, stream, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {name} holds a {type(content).__name__}, expected a dict of tensors or a '
            "dict with the key 'state_dict'"
        )
    return _without_programs(content)


def _history_buffer_method(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr`` while reading: statistics of a log buffer and nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(
            f'Trying to call reduce for unrecognized function getattr({owner!r}, {name!r})'
        )
    return getattr(HistoryBuffer, name)


def latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode`` while reading: the one use that pickles of arrays make."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(
            f'Trying to call reduce for unrecognized function _codecs.encode to {encoding!r}'
        )
    return text.encode('latin1')


def _alias(full_name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``function`` so that the restricted reader finds it under ``full_name``.

    Torch looks functions up by the module and name they state; numpy 1 and 2 state different
    ones for the same function, and torch 2.4 has no other way to give a second name.
    """

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__ = full_name.rsplit('.', 1)
    call.__qualname__ = call.__name__
    return call


def _list_safe_globals() -> list[Any]:
    # Milestones of a step schedule are a Counter, which torch 2.4 does not list itself.
    allowed: list[Any] = [HistoryBuffer, Counter, argparse.Namespace, ArrayRecord, DtypeRecord]
    for place, function in STAND_INS.items():
        allowed.append(_alias('.'.join(place), function))
    allowed.append(_alias('builtins.getattr', _history_buffer_method))
    # How arrays keep their bytes in old pickle protocols; newer torch lists it itself.
    allowed.append(_alias('_codecs.encode', latin1_bytes))
    return allowed


@contextmanager
def _safe_globals() -> Iterator[None]:
    """Add our list to torch's own for one reading; torch 2.4 has no such context manager."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_list_safe_globals())
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


_REFUSALS = (
    r'GLOBAL (\S+) was not an allowed global',
    r'unsupported GLOBAL (\S+) whose module',
    r'Trying to call reduce for unrecognized function (.+)',
    r'Can only (?:create new object|build) .* but got (.+)',
)


def _blocked_objects(error: Exception, stream: BinaryIO) -> list[str]:
    """Name what the restricted reader refused; empty if the file is damaged rather than unsafe."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    for pattern in _REFUSALS:
        found = re.search(pattern, str(error))
        if found:
            return [found[1].rstrip('.')]
    if 'Unsupported operand' in str(error):  # instructions of newer pickles, e.g. protocol 4
        return _list_globals(stream)
    return []


def _list_globals(stream: BinaryIO) -> list[str]:
    """List the objects a pickle names, without running it."""
    stream.seek(0)
    try:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                inner = [n for n in archive.namelist() if n.endswith('/data.pkl')]
                content = archive.read(inner[0])
        else:
            stream.seek(0)
            content = stream.read()
        names, strings = [], ['?', '?']
        for code, argument, _ in pickletools.genops(content):
            if code.name in ('GLOBAL', 'INST'):
                names.append(str(argument).replace(' ', '.'))
            elif code.name == 'STACK_GLOBAL':
                names.append('.'.join(strings[-2:]))
            elif 'UNICODE' in code.name:
                strings.append(str(argument))
    except (ValueError, IndexError, zipfile.BadZipFile, UnicodeDecodeError):
        return []
    return names


def _unsafe(name: str, blocked: list[str]) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f'checkpoint {name} was not loaded: it needs {", ".join(blocked[:5])}, which is not on '
        'the list of objects that cannot run code. Only if you trust whoever made this file, '
        f'give {TRUST_FLAG}'
    )


def _damaged(name: str, size: int, stream: BinaryIO, error: Exception) -> CheckpointError:
    stream.seek(0)
    start = stream.read(256).lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml')):
        reason = 'it is a web page, probably an error page of the server it was fetched from'
    else:
        sentence = str(error).strip().split('. ')[0].splitlines()
        detail = ': '.join([type(error).__name__, *sentence[:1]])
        reason = f'it is cut off or no file of torch.save ({detail})'
    return CheckpointError(
        f'checkpoint {name} ({size} bytes) cannot be read: {reason}. Copy or download it again'
    )


def _without_programs(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Move texts of configs to a key that no runner and no inferencer executes."""
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        texts = [meta.pop(key) for key in _CONFIG_KEYS if key in meta]
        if texts:
            meta['config_text'] = texts[0]
    hub = checkpoint.get('message_hub')
    if isinstance(hub, dict):
        for part in ('runtime_info', 'resumed_keys'):
            if isinstance(hub.get(part), dict):
                hub[part].pop('cfg', None)
    return checkpoint
