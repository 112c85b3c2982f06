"""The models of the zoo as text and as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from .zoo import NO_WEIGHTS, ZooModel, cache_folder

_COLUMNS = ('name', 'method', 'task', 'weights', 'numbers')


def table(models: Sequence[ZooModel]) -> str:
    """Write one line a model, with what is claimed or measured of it."""
    if not models:
        return 'no models of this kind'
    rows = [_COLUMNS, *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append('  '.join([*cells, row[-1]]).rstrip())
    lines.insert(1, '  '.join('-' * width for width in [*widths, len(_COLUMNS[-1])]))
    if not any(model.weights for model in models):
        lines += ['', NO_WEIGHTS]
    return '\n'.join(lines)


def _row(model: ZooModel) -> tuple[str, ...]:
    claims = '; '.join(map(str, model.claims))
    return (model.name, model.method, model.task, 'yes' if model.weights else '-', claims)


def describe(model: ZooModel) -> str:
    """Write everything known of a model."""
    rows = {
        'name': model.name,
        'method': model.method,
        'task': model.task,
        'configuration': str(model.config),
        'weights': model.note,
    }
    lines = [f'{name:<14} {value}' for name, value in rows.items()]
    lines += [f'{"SHA-256":<14} {digest}  {name}' for name, digest in model.hashes.items()]
    lines += [f'{"numbers":<14} {claim}' for claim in model.claims]
    if model.weights:
        lines.append(f'{"kept in":<14} {cache_folder()}')
    return '\n'.join(lines)


def as_json(models: ZooModel | Sequence[ZooModel]) -> str:
    """Write one model or several as JSON."""
    content: Any = (
        dataclasses.asdict(models)
        if isinstance(models, ZooModel)
        else [dataclasses.asdict(model) for model in models]
    )
    return json.dumps(content, indent=2, default=str)
