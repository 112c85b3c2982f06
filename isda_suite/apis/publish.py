"""Publish trained weights: nothing but tensors and plain facts, under names that prove them."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isda_suite.checkpoint.atomic import put_in_place
from isda_suite.checkpoint.integrity import HASH_DIGITS, hex_digest
from isda_suite.checkpoint.load import class_names_of, state_dict_of
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.checkpoint.safetensors_file import SUFFIX, separate, write_safetensors
from isda_suite.checkpoint.saving import save_file
from isda_suite.engine.errors import ConfigError

SUFFIXES = (SUFFIX, '.pth')
_KEPT = (
    'epoch',
    'iter',
    'config_text',
    'method',
    'converted_from',
    'source',
    'source_sha256',
    'isda_suite_version',
    'mmengine_version',
)


def publish_checkpoint(
    source: str | Path, destination: str | Path, trust: bool = False
) -> dict[Path, str]:
    """Write the weights of a checkpoint as ``.safetensors`` and as ``.pth``.

    Both hold the same: every tensor, the class names and colours, epoch and iteration, and the
    text of the configuration. The state of the optimizer, of the schedules and of the logs is
    left out. Equal weights give equal files.

    Args:
        source: A checkpoint of a training, or a converted one.
        destination: Folder and name of the results; the first digits of each file's SHA-256 and
            its suffix are added (``work_dirs/isda`` becomes ``work_dirs/isda-1a2b3c4d.pth``).
        trust: Read a source that may run code.

    Returns:
        The written files and their SHA-256, the ``.safetensors`` first.

    Raises:
        ConfigError: if the destination is a folder.
        CheckpointError: if the source is damaged, unsafe, or holds no tensors.
        CheckpointWriteError: if the disk is full.
    """
    target = Path(destination).expanduser()
    if target.is_dir():
        raise ConfigError(f'{target} is a folder: give FOLDER/NAME, without hash and suffix')
    if target.suffix in SUFFIXES:
        target = target.with_suffix('')
    checkpoint = load_file(source, trust=trust)
    state = separate(state_dict_of(checkpoint, str(source)))
    meta = _plain_facts(checkpoint.get('meta') or {})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.publish-', dir=target.parent) as folder:
        drafts = [Path(folder) / f'{target.name}{suffix}' for suffix in SUFFIXES]
        write_safetensors(state, meta, drafts[0])
        save_file({'meta': meta, 'state_dict': state}, drafts[1])
        return dict(_name_by_content(draft, target) for draft in drafts)


def _plain_facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Take over what a reader needs, as numbers, texts and lists only."""
    facts = {key: meta[key] for key in _KEPT if key in meta}
    classes = class_names_of(meta)
    if classes:
        facts['dataset_meta'] = {'classes': classes}
        stored = meta.get('dataset_meta') or meta
        palette = stored.get('palette', stored.get('PALETTE'))
        if palette is not None:
            facts['dataset_meta']['palette'] = palette
    # Numbers and arrays of numpy become those of Python; both files then hold equal values.
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=lambda value: value.tolist()))
    return plain


def _name_by_content(draft: Path, target: Path) -> tuple[Path, str]:
    digest = hex_digest(draft)
    final = target.with_name(f'{target.name}-{digest[:HASH_DIGITS]}{draft.suffix}')
    put_in_place(draft, final)
    return final, digest
