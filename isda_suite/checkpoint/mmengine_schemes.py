"""Loaders for every kind of address mmengine knows, all of them on the safe reader.

mmengine looks a loader up by the prefix of the address (nothing, ``https://``,
``torchvision://`` ...) in a table that is open to registration. Replacing the entries there is
enough for the runner, hooks, inferencers and ``init_cfg``, and needs no patching of its functions.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from .errors import CheckpointError
from .integrity import hash_in_name
from .safe_load import load_file, load_stream

Loader = Callable[..., dict[str, Any]]


def register_safe_schemes(trust: bool) -> None:
    """Replace mmengine's loaders; see :func:`.safe_load.install_safe_loading`.

    Args:
        trust: Let files run code.
    """

    # mmengine's log line shows the name of a loader from its eleventh letter on.
    def load_from_local(filename: str | Path, map_location: Any = None) -> dict[str, Any]:
        return load_file(filename, trust=trust, map_location=map_location)

    def load_from_http(filename: str, map_location: Any = None) -> dict[str, Any]:
        return load_file(_fetch(filename), trust=trust, map_location=map_location)

    def load_from_torchvision(filename: str, map_location: Any = None) -> dict[str, Any]:
        return load_from_http(_look_up(filename, get_torchvision_models()), map_location)

    def load_from_openmmlab(filename: str, map_location: Any = None) -> dict[str, Any]:
        name = filename.split('://', 1)[1]
        name = get_deprecated_model_names().get(name, name)
        address = _look_up(f'openmmlab://{name}', get_external_models())
        if address.startswith(('http://', 'https://')):
            return load_from_http(address, map_location)
        return load_from_local(_mmengine_home() / address, map_location)

    def load_from_mmcls(filename: str, map_location: Any = None) -> dict[str, Any]:
        checkpoint = load_from_http(_look_up(filename, get_mmcls_models()), map_location)
        state = checkpoint['state_dict']
        prefix = 'backbone.'
        return {
            'state_dict': {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        }

    def load_from_ceph(filename: str, map_location: Any = None) -> dict[str, Any]:
        backend = get_file_backend(filename, backend_args={'backend': 'petrel'})
        with io.BytesIO(backend.get(filename)) as stream:
            return load_stream(stream, filename, trust=trust, map_location=map_location)

    schemes: dict[Loader, tuple[str, ...]] = {
        load_from_local: ('',),
        load_from_http: ('http://', 'https://'),
        load_from_torchvision: ('modelzoo://', 'torchvision://'),
        load_from_openmmlab: ('open-mmlab://', 'openmmlab://'),
        load_from_mmcls: ('mmcls://',),
        load_from_ceph: (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
        _refuse_pavi: ('pavi://',),
    }
    for loader, prefixes in schemes.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def _refuse_pavi(filename: str, map_location: Any = None) -> dict[str, Any]:
    raise CheckpointError(f'{filename}: fetch the file first and give its path instead')


def _look_up(address: str, table: dict[str, str]) -> str:
    scheme, name = address.split('://', 1)
    if name not in table:
        raise CheckpointError(
            f'{address}: {scheme} has no model {name!r}; known: {", ".join(sorted(table)[:20])} ...'
        )
    return table[name]


def _mmengine_home() -> Path:
    from mmengine.runner.checkpoint import _get_mmengine_home

    return Path(_get_mmengine_home())


def _fetch(address: str) -> Path:
    """Download once into torch's cache; a hash in the file name is checked."""
    name = Path(urlparse(address).path).name
    target = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if get_rank() == 0:
        _download(address, target)
    barrier()
    _download(address, target)  # ranks of other machines, which share no cache with rank 0
    return target


def _download(address: str, target: Path) -> None:
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:  # writes a temporary file and renames it
        torch.hub.download_url_to_file(address, str(target), hash_in_name(target.name))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'{address} could not be fetched ({error}): download it by other means and give its '
            'path'
        ) from error
