"""The models that come with the package: names, claims, and where their weights are.

What is known stands in ``configs/*/metafile.yml``. Weights are looked for under a path, in the
cache folder, and at an address; what was fetched is checked and kept. Nothing heavy is imported.

The cache folder is ``ISDA_CACHE_DIR``, else ``isda_suite`` in ``XDG_CACHE_HOME``, else
``~/.cache/isda_suite``; weights lie in its sub-folder ``weights``.
"""

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from isda_suite.apis.downloads.dataset_sources import Source
from isda_suite.apis.downloads.transfer import DownloadError, TransferOptions
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.integrity import hash_in_name, hex_digest
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.metafile import NAME as METAFILE
from isda_suite.engine.metafile import read_models
from isda_suite.resources import resource_root

ORIGINAL = "original's claim"
OURS = 'ours, measured'
NO_WEIGHTS = 'no weights published with this package: train or convert'
TASKS = {
    'Instance Segmentation': 'instance',
    'Semantic Segmentation': 'semantic',
    'Video Instance Segmentation': 'video',
}
"""Words of the metafiles, and ours."""


@dataclass(frozen=True)
class Claim:
    """Numbers that someone says a model reaches.

    Args:
        dataset: What it was evaluated on.
        metrics: Numbers by the name of the metric, as ``mask AP``, in percent.
        source: ``original's claim`` or ``ours, measured``.
    """

    dataset: str
    metrics: Mapping[str, float]
    source: str

    def __str__(self) -> str:
        """Write it in one line."""
        numbers = ', '.join(f'{name} {value}' for name, value in self.metrics.items())
        return f'{numbers} on {self.dataset} ({self.source})'


@dataclass(frozen=True)
class ZooModel:
    """A configuration that comes with the package.

    Args:
        name: Name of the configuration, without folder and suffix.
        method: ``isda``, ``defvistr``, ``idip``, ``isdnet``, ``iuq``, ``solq`` or ``sotr``.
        task: ``instance``, ``video`` or ``semantic``.
        config: The file.
        weights: Address or file name of trained weights; None: none are published.
        sha256: Hash of ``weights``, None if it is not known.
        claims: Numbers of others and of our own, told apart by their source.
        hashes: Every file of the weights (``.pth``, ``.safetensors``) and its hash.
    """

    name: str
    method: str
    task: str
    config: Path
    weights: str | None = None
    sha256: str | None = None
    claims: tuple[Claim, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Say where weights come from, or that there are none."""
        return self.weights or NO_WEIGHTS


def list_models(task: str | None = None, method: str | None = None) -> list[ZooModel]:
    """Return the models of the package, sorted by name.

    Args:
        task: Only those of this task: ``instance``, ``video`` or ``semantic``.
        method: Only those of this method.

    Raises:
        ConfigError: if there is no such task or method.
    """
    models = _read_zoo(resource_root())
    _require_known('task', task, TASKS.values())
    _require_known('method', method, {model.method for model in models})
    return [m for m in models if task in (None, m.task) and method in (None, m.method)]


def find_model(name: str) -> ZooModel:
    """Return the model of a name.

    Args:
        name: Name of a shipped configuration, as ``isda_r50_3x_coco``.

    Raises:
        ConfigError: if there is none, with the nearest names.
    """
    models = {model.name: model for model in _read_zoo(resource_root())}
    if name not in models:
        raise ConfigError(f'there is no model {name!r} in the zoo{_nearest(name, models)}')
    return models[name]


def cache_folder() -> Path:
    """Return the folder for fetched weights; it need not exist."""
    own = os.environ.get('ISDA_CACHE_DIR')
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    root = Path(own).expanduser() if own else Path(base) / 'isda_suite'
    return root / 'weights'


def resolve_weights(
    text: str | Path, sha256: str | None = None, transfer: TransferOptions | None = None
) -> Path:
    """Return the local file that holds weights, fetching it first if it is elsewhere.

    Args:
        text: One of, tried in this order: path of a ``.pth`` or ``.safetensors`` file; address
            (``https://…``, with ``#sha256=…`` if its hash is known); name of a model of the zoo;
            name of a file in the cache folder.
        sha256: Hash the file must have. None takes what the address, the zoo, or the name of the
            file at the address (``isda-1a2b3c4d.pth``) says; where nobody says anything, the first
            download decides what later ones of the address must be. The name of a local file is
            compared with its content when it is read.
        transfer: How files are fetched.

    Raises:
        CheckpointError: if there is no such file, it cannot be fetched, or has another hash.
    """
    address = str(text)
    if '://' in address:
        return _fetch(address, sha256, transfer or TransferOptions())
    file = Path(text).expanduser()
    if file.is_file():
        return _checked(file, sha256)
    models = {model.name: model for model in _read_zoo(resource_root())}
    if address in models:
        return _weights_of(models[address], sha256, transfer or TransferOptions())
    cached = cache_folder() / file.name
    if file.parent == Path('.') and cached.is_file():
        return _checked(cached, sha256)
    kind = 'is a folder' if file.is_dir() else 'does not exist'
    raise CheckpointError(
        f'checkpoint {file} {kind} (working directory {Path.cwd()}) and is no model of the '
        f'zoo{_nearest(address, models)}: give the path of a .pth or .safetensors file, an address '
        f'https://…, or a name that `zoo` lists'
    )


def local_weights(text: str | Path | None) -> str | None:
    """Return the file for an argument that names weights, fetching what has to be fetched.

    Args:
        text: An address ``https://…`` or a model of the zoo is resolved. Everything else (a path,
            an address of mmengine's as ``torchvision://…``, None) is returned as it is: those who
            read it say what is wrong with it.

    Raises:
        CheckpointError: as :func:`resolve_weights`.
    """
    if text is None or Path(text).is_file():
        return None if text is None else str(text)
    names = {model.name for model in _read_zoo(resource_root())}
    wanted = str(text).startswith('https://') or str(text) in names
    return str(resolve_weights(text)) if wanted else str(text)


def _weights_of(model: ZooModel, sha256: str | None, transfer: TransferOptions) -> Path:
    """Return the weights of a model of the zoo; safetensors before pickles where both are here."""
    for name in sorted(model.hashes, key=lambda one: not one.endswith('.safetensors')):
        cached = cache_folder() / name
        if cached.is_file():
            return _checked(cached, sha256 or model.hashes[name])
    if model.weights is None:
        raise CheckpointError(
            f'{model.name}: {NO_WEIGHTS}. `train {model.name}` makes some, `convert` takes those '
            'of the original code; then give the path of the file'
        )
    if '://' not in model.weights:
        raise CheckpointError(
            f'{model.name}: its weights {model.weights} have no address: put the file into '
            f'{cache_folder()} or give its path'
        )
    return _fetch(model.weights, sha256 or model.sha256, transfer)


def _fetch(address: str, sha256: str | None, transfer: TransferOptions) -> Path:
    """Fetch a file into a folder of the cache for this address alone, unless it lies there."""
    url, fragment = urldefrag(address)
    stated = fragment.removeprefix('sha256=') if fragment.startswith('sha256=') else None
    expected = sha256 or stated or _hash_in_zoo(url)
    source = Source(url, digest=f'sha256:{expected.lower()}' if expected else None)
    if not source.file_name:
        raise CheckpointError(f'{url} names no file: give the address of a .pth or .safetensors')
    folder = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
    with _only_process_in(folder):
        error = _obtain(source, folder, transfer)
    if error is not None:
        raise CheckpointError(
            f'the weights cannot be fetched: {error}. Without a network, copy the file from '
            f'elsewhere and give its path, or put it at {folder / source.file_name}'
        ) from error
    return _checked(folder / source.file_name, expected or hash_in_name(source.file_name))


def _obtain(source: Source, folder: Path, transfer: TransferOptions) -> Exception | None:
    from isda_suite.apis.downloads.download import DownloadOptions, download_all

    options = DownloadOptions(threads=1, transfer=transfer)
    try:
        return download_all([source], folder, options).get(source.file_name)
    except (DownloadError, OSError) as error:
        return error


@contextmanager
def _only_process_in(folder: Path) -> Iterator[None]:
    """Let the ranks of one machine fetch a file once, one after the other."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / 'fetching').open('w')
    except OSError as error:
        raise CheckpointError(
            f'the cache folder {folder} cannot be written ({error.strerror}): set ISDA_CACHE_DIR '
            'to a folder of yours'
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _checked(file: Path, sha256: str | None) -> Path:
    """Compare a file with its hash, or the first digits of it, if they are known."""
    expected = (sha256 or '').lower()
    found = hex_digest(file) if expected else ''
    if not found.startswith(expected):
        raise CheckpointError(
            f'{file} ({file.stat().st_size} bytes) is not what was expected: its SHA-256 is '
            f'{found}, expected {expected}. It was damaged or changed: remove it, then fetch or '
            'copy it again'
        )
    return file


def _hash_in_zoo(url: str) -> str | None:
    models = _read_zoo(resource_root())
    return next((model.sha256 for model in models if model.weights == url), None)


@cache
def _read_zoo(root: Path) -> tuple[ZooModel, ...]:
    files = sorted((root / 'configs').glob(f'*/{METAFILE}'))
    models = [_model(entry, file, root) for file in files for entry in read_models(file)]
    return tuple(sorted(models, key=lambda model: model.name))


def _model(entry: dict[str, Any], metafile: Path, root: Path) -> ZooModel:
    word = entry['Metadata'].get('Task')
    if word not in TASKS:
        raise ConfigError(
            f'{metafile}: {entry["Name"]} is for the Task {word!r}, expected one of '
            f'{", ".join(TASKS)}; it stands in the Metadata of the entry or of its collection'
        )
    weights, hashes = entry.get('Weights'), dict(entry.get('SHA256') or {})
    return ZooModel(
        name=entry['Name'],
        method=metafile.parent.name,
        task=TASKS[word],
        config=root / entry['Config'],
        weights=weights,
        sha256=hashes.get(weights.rpartition('/')[2]) if weights else None,
        claims=tuple(
            Claim(str(one['Dataset']), dict(one['Metrics']), str(one['Source']))
            for one in entry.get('Results') or []
        ),
        hashes=hashes,
    )


def _require_known(kind: str, word: str | None, known: Iterable[str]) -> None:
    if word is not None and word not in known:
        raise ConfigError(
            f'there is no {kind} {word!r} in the zoo, known are {", ".join(sorted(known))}'
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f' (nearest: {", ".join(near)})' if near else ''
