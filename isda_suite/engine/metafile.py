"""The hashes of published weights in ``metafile.yml``, the list of models beside configurations.

An entry of ``Models`` names its weights and the SHA-256 of every file of them::

    Weights: isda-1a2b3c4d.pth
    SHA256:
      isda-1a2b3c4d.pth: '1a2b3c4d…'
"""

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.integrity import hex_digest
from isda_suite.engine.errors import ConfigError

NAME = 'metafile.yml'
_WEIGHTS, _HASHES = 'Weights', 'SHA256'


def require_published_content(cfg: Any, checkpoints: Iterable[str | Path | None]) -> None:
    """Refuse a local file that the metafile beside the configuration names with another hash.

    Args:
        cfg: The configuration; one that was read from no file has no metafile.
        checkpoints: Paths and addresses of weights; ``None`` is skipped, addresses too.

    Raises:
        CheckpointError: naming both hashes.
        ConfigError: if the metafile cannot be read.
    """
    if not getattr(cfg, 'filename', None):
        return
    metafile = Path(cfg.filename).parent / NAME
    known = _hashes(metafile) if metafile.is_file() else {}
    for file in (Path(one).expanduser() for one in checkpoints if one):
        if file.name in known and file.is_file():
            found = hex_digest(file)
            if found != known[file.name]:
                raise CheckpointError(
                    f'checkpoint {file} is not the published one: its SHA-256 is {found}, '
                    f'{metafile} says {known[file.name]}. Copy or download it again, or rename it '
                    'if it is another file'
                )


def read_models(metafile: Path) -> list[dict[str, Any]]:
    """Return the models of a metafile, each with the metadata of its collection.

    Args:
        metafile: The file.

    Returns:
        The entries of ``Models``; ``Metadata`` holds the collection's where the entry's own says
        nothing else.

    Raises:
        ConfigError: if it cannot be read, or an entry has no ``Name`` or no ``Config``.
    """
    content = _read(metafile)
    collections = content.get('Collections') if isinstance(content, dict) else None
    shared = {one.get('Name'): one.get('Metadata') or {} for one in collections or []}
    models = copy.deepcopy(_models(content))
    for model in models:
        missing = [key for key in ('Name', 'Config') if not isinstance(model.get(key), str)]
        if missing:
            raise ConfigError(
                f'{metafile}: an entry of Models has no {" and no ".join(missing)}: {model!r}'
            )
        own = model.get('Metadata') or {}
        model['Metadata'] = {**shared.get(model.get('In Collection'), {}), **own}
    return models


def describe(hashes: Mapping[str, str]) -> list[str]:
    """Return the lines of a metafile that name published weights.

    Args:
        hashes: File name to SHA-256; ``Weights`` is the ``.pth``, which other programs read too.
    """
    weights = next((name for name in hashes if name.endswith('.pth')), next(iter(hashes)))
    rows = [f"  {name}: '{digest}'" for name, digest in hashes.items()]
    return [f'{_WEIGHTS}: {weights}', f'{_HASHES}:', *rows]


def require_entry(metafile: Path, model: str) -> None:
    """Check that a metafile has one entry of this name.

    Args:
        metafile: The file.
        model: ``Name`` of the entry of ``Models``.

    Raises:
        ConfigError: if it has none or several, naming those it has, or cannot be read.
    """
    names = [str(one.get('Name')) for one in _models(_read(metafile))]
    if names.count(model) != 1:
        raise ConfigError(
            f'{metafile} has {names.count(model)} models with the Name {model!r}, expected one; '
            f'its models: {", ".join(names)}'
        )


def enter(metafile: Path, model: str, hashes: Mapping[str, str]) -> None:
    """Write published weights into a metafile, in place of those that the entry named before.

    The rest of the file keeps its layout and comments.

    Args:
        metafile: The file; it is replaced whole or not at all.
        model: ``Name`` of the entry of ``Models``.
        hashes: As for :func:`describe`.

    Raises:
        ConfigError: as :func:`require_entry`, or if the file is laid out in an unusual way.
    """
    require_entry(metafile, model)
    before = _read(metafile)
    text = _with_entry(metafile.read_text(encoding='utf-8'), model, describe(hashes))
    wanted = copy.deepcopy(before)
    entry = next(one for one in _models(wanted) if str(one.get('Name')) == model)
    entry.update(_parse('\n'.join(describe(hashes)), metafile))
    if _parse(text, metafile) != wanted:
        lines = '\n'.join(describe(hashes))
        raise ConfigError(
            f'{metafile} is not laid out as one key a line, so it was left as it was; add to the '
            f'entry {model} by hand:\n{lines}'
        )
    with write_atomically(metafile, text=True) as file:
        file.write(text)


def _with_entry(text: str, model: str, new: list[str]) -> str:
    """Put lines at the end of an entry, and take out the ones they replace."""
    lines = text.splitlines()
    start = rf'( *)- Name: *[\'"]?{re.escape(model)}[\'"]? *(#.*)?'
    found = [index for index, line in enumerate(lines) if re.fullmatch(start, line)]
    if not found:
        return text
    first = found[-1]  # a collection, listed above, may have the same name
    indent = _indent(lines[first]) + 2
    end = first + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) >= indent):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    kept, replaced = [], False
    for line in lines[first + 1 : end]:
        if line.strip() and _indent(line) == indent:
            replaced = line.strip().startswith((f'{_WEIGHTS}:', f'{_HASHES}:'))
        if not replaced:
            kept.append(line)
    added = [' ' * indent + line for line in new]
    return '\n'.join([*lines[: first + 1], *kept, *added, *lines[end:]]) + '\n'


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(' '))


def _hashes(metafile: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in _models(_read(metafile)):
        table = model.get(_HASHES) or {}
        if not isinstance(table, dict):
            raise ConfigError(
                f'{metafile}: {_HASHES} of {model.get("Name")} must be a table of file names and '
                f'hashes, got {table!r}'
            )
        found.update({str(name): str(digest) for name, digest in table.items()})
    return found


def _models(content: Any) -> list[dict[str, Any]]:
    """Return the entries of both layouts: a list of models, or a table with the key Models."""
    models = content.get('Models') if isinstance(content, dict) else content
    return [one for one in models or [] if isinstance(one, dict)]


def _read(metafile: Path) -> Any:
    if not metafile.is_file():
        raise ConfigError(f'there is no metafile {metafile} (working directory {Path.cwd()})')
    return _parse(metafile.read_text(encoding='utf-8'), metafile)


def _parse(text: str, metafile: Path) -> Any:
    import yaml  # type: ignore[import-untyped]  # no stubs in our requirements

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f'{metafile} is not a yaml file of plain data: {error}') from error
