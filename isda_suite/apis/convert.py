"""Convert checkpoints of other code to our names, and ours to the original ones."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import isda_suite
from isda_suite.checkpoint.aliases import with_aliases
from isda_suite.checkpoint.atomic import save_checkpoint_atomically
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.integrity import hex_digest
from isda_suite.checkpoint.load import ShapeMismatch, class_names_of, state_dict_of
from isda_suite.checkpoint.pickled_arrays import SUFFIXES, load_pickled
from isda_suite.checkpoint.renaming import (
    ConversionReport,
    NameTable,
    account_for,
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.checkpoint.safetensors_file import SUFFIX as SAFETENSORS
from isda_suite.engine.errors import ConfigError

AUTO = 'auto'


@dataclass(frozen=True)
class ConversionOptions:
    """How to convert.

    Args:
        method: Name of a folder of ``isda_suite/methods`` with name tables.
        style: Style of the source, or ``auto`` to tell it from the names.
        config: Config of the model the result is for; names and shapes are compared with it, and
            methods that can, such as DefVisTR with another clip length, fit the weights to it.
        num_classes: Classes of that model; a class layer made for another number is left out.
        to_original: Convert from our names to those of the published code instead.
        unequal_copies: ``error``, or ``last`` to take the last of unequal shared copies.
        trust: Read a source that may run code.
    """

    method: str = 'isda'
    style: str = AUTO
    config: str | Path | None = None
    num_classes: int | None = None
    to_original: bool = False
    unequal_copies: str = 'error'
    trust: bool = False


def convert_checkpoint(
    source: str | Path, destination: str | Path, options: ConversionOptions | None = None
) -> ConversionReport:
    """Convert a checkpoint file; the result appears whole or not at all.

    Args:
        source: File to read: ``.pth``, ``.safetensors``, or arrays in a ``.pkl``.
        destination: File to write: ``state_dict``, and ``meta`` with the method, the hash of the
            source and the class names if they are known.
        options: How; ``None`` is ISDA with the style told from the names.

    Returns:
        What was filled, what is new, what was not used.

    Raises:
        ConfigError: if the options do not fit together.
        CheckpointError: if the source is damaged, unsafe, of another style, or does not fit the
            config.
    """
    options = options or ConversionOptions()
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ConfigError(f'{destination} is the source: write to another file')
    if destination.suffix == SAFETENSORS:
        raise ConfigError(
            f'{destination}: a .pth is written here; publish_checkpoint.py makes a {SAFETENSORS} '
            'of it'
        )
    tables = _tables_of(options.method)
    _check_options(options, tables)
    read = load_pickled if source.suffix in SUFFIXES else load_file
    checkpoint = read(source, trust=options.trust)
    state = state_dict_of(checkpoint, str(source))
    table = _choose_table(state, tables, options)
    converted, report = convert_state_dict(state, table, unequal_copies=options.unequal_copies)
    if options.to_original:
        converted = with_aliases(converted, tables.ORIGINAL)
    dropped: list[str] = []
    if options.num_classes is not None:
        converted, dropped = drop_class_layer(converted, table, options.num_classes)
    class_layer_kept = not dropped
    converted, report = _fit(converted, report, tables, options)
    report.unused += dropped
    _require_shapes(report.mismatched, table)
    meta: dict[str, Any] = dict(
        method=options.method,
        converted_from=table.style,
        source=source.name,
        source_sha256=hex_digest(source),
        isda_suite_version=isda_suite.__version__,
    )
    classes = class_names_of(checkpoint.get('meta') or {})
    if classes and class_layer_kept:
        meta.update(dataset_meta=dict(classes=classes), CLASSES=classes)
    save_checkpoint_atomically({'meta': meta, 'state_dict': converted}, destination)
    return report


def methods_with_tables() -> list[str]:
    """List the methods whose checkpoints can be converted."""
    folder = Path(isda_suite.__file__).parent / 'methods'
    return sorted(file.parent.name for file in folder.glob('*/convert.py'))


def _tables_of(method: str) -> ModuleType:
    known = methods_with_tables()
    if method not in known:
        raise ConfigError(f'method {method!r} has no name tables; known: {", ".join(known)}')
    return importlib.import_module(f'isda_suite.methods.{method}.convert')


def _check_options(options: ConversionOptions, tables: ModuleType) -> None:
    styles = [AUTO, *(t.style for t in tables.TABLES if t is not tables.OURS)]
    if options.style not in styles:
        raise ConfigError(
            f'style {options.style!r} is unknown to {options.method}; known: {", ".join(styles)}'
        )
    if options.to_original and (options.num_classes is not None or options.config is not None):
        raise ConfigError('export to the original names takes neither a config nor num_classes')
    if options.num_classes is not None and options.num_classes < 1:
        raise ConfigError(f'num_classes must be at least 1, got {options.num_classes}')


def _choose_table(
    state: Mapping[str, Tensor], tables: ModuleType, options: ConversionOptions
) -> NameTable:
    found = detect_style(state, tables.TABLES)
    if options.to_original:
        if found is not tables.OURS:
            raise CheckpointError(
                f'the source has names of the style {found.style!r}; only a checkpoint with names '
                'of isda_suite can be exported'
            )
        return invert(tables.ORIGINAL)
    fits = hasattr(tables, 'fit_to_model') and options.config is not None
    if found is tables.OURS and not fits:
        raise CheckpointError('the source has names of isda_suite already; load it as it is')
    if options.style not in (AUTO, found.style):
        raise CheckpointError(
            f'style {options.style!r} was given, but the names are those of {found.style!r}'
        )
    return found


def _fit(
    state: dict[str, Tensor],
    report: ConversionReport,
    tables: ModuleType,
    options: ConversionOptions,
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Compare renamed entries with the model of a config, after what the room does to fit them.

    A room's ``fit_to_model(state, model)`` gives the entries to keep, the names it left out, and
    notes on both.
    """
    if options.config is None:
        return state, account_for(report.style, state, report.unused, None)
    from .model import build_model

    with torch.device('meta'):  # shapes only: no memory, no initialisation
        model = build_model(options.config, options.num_classes)
    left_out: list[str] = []
    notes: list[str] = []
    if hasattr(tables, 'fit_to_model'):
        state, left_out, notes = tables.fit_to_model(state, model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    report = account_for(report.style, state, report.unused + left_out, shapes)
    report.notes = notes
    return state, report


def _require_shapes(mismatched: list[ShapeMismatch], table: NameTable) -> None:
    if not mismatched:
        return
    first = mismatched[0]
    classes = (first.expected or (0,))[0] - table.extra_outputs
    hint = (
        f'; for a model of {classes} classes give --num-classes {classes}, '
        'which leaves the class layer new'
        if first.is_class_layer()
        else ''
    )
    raise CheckpointError(
        f'{len(mismatched)} converted entries have another shape than the config asks for: '
        f'{first.name} {first.found} -> {first.expected}{hint}'
    )
