"""Rename the entries of a checkpoint by a table, and account for every one of them.

A room states only a :class:`NameTable`: ordered rules, the first whose pattern fits the whole name
decides. Tables of plain rules (literals and groups) also run backwards, for export.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from mmengine.logging import print_log
from torch import Tensor

from .errors import CheckpointError
from .load import ShapeMismatch, first_names

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    r"""One line of a table.

    Args:
        pattern: Regular expression for the whole source name.
        target: Target name with ``\1`` for groups; ``None`` drops the entry as unused.
        transform: Applied to the tensor on the way.
        inverse: Its inverse, needed for export when there is a transform.
    """

    pattern: str
    target: str | None
    transform: Transform | None = None
    inverse: Transform | None = None


@dataclass(frozen=True)
class NameTable:
    """How the checkpoints of one style are named.

    Args:
        style: Name of the style on the command line.
        rules: The table.
        marks: Patterns of which each fits some name of every checkpoint of this style.
        foreign: Patterns of which none fits a name of a checkpoint of this style.
        copies: Patterns with one group ``copy``: names that differ in that group only are copies
            of one shared tensor and must be equal.
        refused: Pattern to reason: a name that fits makes the checkpoint unusable.
        unequal_means: What unequal copies say about a checkpoint, when they say more than that
            it is broken; taking the last copy is then no way out.
        aliases: From names of this style to second names of the same tensors, written on export;
            rules without a target drop them on import.
        class_layer: Pattern of *target* names whose first axis counts classes.
        extra_outputs: What that axis counts beside the classes, e.g. 1 for a background.
        not_exported: Patterns of *target* names this style lacks; export drops them.
    """

    style: str
    rules: tuple[Rule, ...]
    marks: tuple[str, ...]
    foreign: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    unequal_means: str | None = None
    aliases: tuple[Rule, ...] = ()
    class_layer: str | None = None
    extra_outputs: int = 0
    not_exported: tuple[str, ...] = ()

    def fits(self, names: Iterable[str]) -> bool:
        """Tell whether names look like this style."""
        known = list(names)

        def found(pattern: str) -> bool:
            return any(re.fullmatch(pattern, name) for name in known)

        return all(map(found, self.marks)) and not any(map(found, self.foreign))


@dataclass
class ConversionReport:
    """What became of the entries.

    Args:
        style: Style of the source.
        filled: Target names that got a tensor.
        new: Target names that got none; ``None`` if the target's names are not known.
        unused: Source names the table drops.
        mismatched: Target names whose tensor has another shape; they count as filled.
        notes: What was changed beside the names, in sentences.
    """

    style: str
    filled: list[str]
    new: list[str] | None
    unused: list[str]
    mismatched: list[ShapeMismatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Write the counts with groups of names."""
        new = 'not known, give a config' if self.new is None else str(len(self.new))
        lines = [
            f'style {self.style}',
            f'filled {len(self.filled)}{_groups(self.filled)}',
            f'new    {new}{_groups(self.new or [])}',
            f'unused {len(self.unused)}{_groups(self.unused)}',
        ]
        if self.mismatched:
            shapes = [f'{m.name} {m.found} -> {m.expected}' for m in self.mismatched]
            lines.append(f'shape  {len(shapes)}: {first_names(shapes)}')
        lines += [f'note   {note}' for note in self.notes]
        return '\n'.join(lines)


def detect_style(names: Iterable[str], tables: Sequence[NameTable]) -> NameTable:
    """Find the table a checkpoint's names belong to.

    Args:
        names: Entry names of the checkpoint.
        tables: The styles a method knows.

    Returns:
        The first table that fits.

    Raises:
        CheckpointError: if none fits.
    """
    known = list(names)
    for table in tables:
        if table.fits(known):
            return table
    raise CheckpointError(
        f'the {len(known)} names of this checkpoint ({first_names(known)}) fit none of the known '
        f'styles: {", ".join(t.style for t in tables)}'
    )


def convert_state_dict(
    state: Mapping[str, Tensor],
    table: NameTable,
    target_shapes: Mapping[str, tuple[int, ...]] | None = None,
    unequal_copies: str = 'error',
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename every entry of a state dict.

    Args:
        state: Entries of the source.
        table: Its style.
        target_shapes: Name and shape of every entry of the model the result is for; ``None`` if
            it is not known.
        unequal_copies: What to do when copies of a shared tensor differ: ``error``, or ``last``
            to warn and give all of them the last value, as loading a shared module would.

    Returns:
        The renamed entries and the report.

    Raises:
        CheckpointError: if a name fits no rule, two entries get one name, copies differ, or the
            target lacks a name.
        ValueError: if ``unequal_copies`` is not one of the two words.
    """
    _refuse(state, table)
    source = _settle_copies(dict(state), table, unequal_copies)
    result: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unused, unmatched = [], []
    for name, tensor in source.items():
        rule, target = _apply(name, table.rules)
        if rule is None:
            unmatched.append(name)
        elif target is None:
            unused.append(name)
        elif target in result:
            raise CheckpointError(f'both {origin[target]} and {name} would become {target}')
        else:
            result[target] = rule.transform(tensor) if rule.transform else tensor
            origin[target] = name
    if unmatched:
        raise CheckpointError(
            f'{len(unmatched)} names are unknown to the style {table.style!r}: '
            f'{first_names(unmatched)}'
        )
    return result, account_for(table.style, result, unused, target_shapes)


def drop_class_layer(
    state: Mapping[str, Tensor], table: NameTable, num_classes: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Leave out a class layer that is made for another number of classes.

    Args:
        state: Converted entries.
        table: The style, which knows the layer.
        num_classes: Classes of the model the checkpoint is for.

    Returns:
        The entries to keep and the names left out.

    Raises:
        ValueError: if the number of classes is not positive or the style has no class layer.
    """
    if num_classes < 1:
        raise ValueError(f'num_classes must be at least 1, got {num_classes}')
    if table.class_layer is None:
        raise ValueError(f'the style {table.style!r} names no class layer')
    outputs = num_classes + table.extra_outputs
    layer = [name for name in state if re.fullmatch(table.class_layer, name)]
    dropped = [name for name in layer if state[name].shape[0] != outputs]
    return {k: v for k, v in state.items() if k not in set(dropped)}, dropped


def invert(table: NameTable) -> NameTable:
    """Build the table that leads back to the source names; dropped entries stay dropped.

    Args:
        table: Plain rules: literal text, escaped dots, unnested groups used once in the target.

    Returns:
        The inverse table, without marks.

    Raises:
        ValueError: if a rule has no inverse.
    """
    rules = [Rule(pattern, None) for pattern in table.not_exported]
    rules += [_invert(rule) for rule in table.rules if rule.target is not None]
    return NameTable(style=table.style, rules=tuple(rules), marks=())


def _apply(name: str, rules: Sequence[Rule]) -> tuple[Rule | None, str | None]:
    for rule in rules:
        found = re.fullmatch(rule.pattern, name)
        if found:
            return rule, None if rule.target is None else found.expand(rule.target)
    return None, None


def _refuse(state: Mapping[str, Tensor], table: NameTable) -> None:
    for pattern, reason in table.refused.items():
        names = [name for name in state if re.fullmatch(pattern, name)]
        if names:
            raise CheckpointError(f'{reason} (found {first_names(names)})')


def _settle_copies(
    state: dict[str, Tensor], table: NameTable, unequal_copies: str
) -> dict[str, Tensor]:
    if unequal_copies not in ('error', 'last'):
        raise ValueError(f"unequal_copies must be 'error' or 'last', got {unequal_copies!r}")
    groups: dict[str, list[str]] = defaultdict(list)
    for name in state:
        for pattern in table.copies:
            found = re.fullmatch(pattern, name)
            if found:
                start, end = found.span('copy')
                groups[f'{name[:start]}*{name[end:]}'].append(name)
    differing = [names for names in groups.values() if not _equal([state[n] for n in names])]
    if not differing:
        return state
    listed = first_names([f'{names[0]} .. {names[-1]}' for names in differing])
    if table.unequal_means:
        raise CheckpointError(f'{table.unequal_means} (unequal: {listed})')
    text = f'{len(differing)} shared tensors have unequal copies: {listed}'
    if unequal_copies == 'error':
        raise CheckpointError(f'{text}; the last copy can be taken for all of them if you ask')
    print_log(f'{text}; the last copy is taken', logger='current')
    for names in differing:
        state.update({name: state[names[-1]] for name in names})
    return state


def _equal(tensors: Sequence[Tensor]) -> bool:
    return all(t.shape == tensors[0].shape and torch.equal(t, tensors[0]) for t in tensors[1:])


def account_for(
    style: str,
    result: Mapping[str, Tensor],
    unused: list[str],
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> ConversionReport:
    """Compare renamed entries with the model they are for.

    Args:
        style: Style of the source.
        result: Renamed entries.
        unused: Source names without a place in the result.
        shapes: Name and shape of every entry of the model, ``None`` if it is not known.

    Returns:
        The report.

    Raises:
        CheckpointError: if the model lacks a name.
    """
    report = ConversionReport(style, list(result), None, unused)
    if shapes is None:
        return report
    foreign = [name for name in result if name not in shapes]
    if foreign:
        raise CheckpointError(
            f'the target model has no entry for {len(foreign)} converted names: '
            f'{first_names(foreign)}'
        )
    report.new = [name for name in shapes if name not in result]
    report.mismatched = [
        ShapeMismatch(name, tuple(value.shape), tuple(shapes[name]))
        for name, value in result.items()
        if tuple(value.shape) != tuple(shapes[name])
    ]
    return report


def _invert(rule: Rule) -> Rule:
    if rule.transform and not rule.inverse:
        raise ValueError(f'the transform of {rule.pattern!r} has no inverse')
    pieces = re.findall(r'\([^()]*\)|\\\.|[A-Za-z0-9_]+', rule.pattern)
    groups = [piece for piece in pieces if piece.startswith('(')]
    target_pieces = re.findall(r'\\\d|[^\\]+', rule.target or '')
    order = [int(piece[1:]) for piece in target_pieces if piece.startswith('\\')]
    if ''.join(pieces) != rule.pattern or sorted(order) != list(range(1, len(groups) + 1)):
        raise ValueError(f'{rule.pattern!r} -> {rule.target!r} has no inverse')
    pattern = ''.join(
        groups[int(p[1:]) - 1] if p.startswith('\\') else re.escape(p) for p in target_pieces
    )
    numbers = iter(range(1, len(groups) + 1))
    back = ''.join(
        f'\\{order.index(next(numbers)) + 1}' if p.startswith('(') else p.replace('\\.', '.')
        for p in pieces
    )
    return replace(
        rule, pattern=pattern, target=back, transform=rule.inverse, inverse=rule.transform
    )


def _groups(names: Sequence[str]) -> str:
    """Count names by their first two parts: ' (backbone 318, neck.convs 9)'."""
    counts: dict[str, int] = defaultdict(int)
    for name in names:
        parts = name.split('.')
        counts['.'.join(parts[:2]) if len(parts) > 2 else parts[0]] += 1
    if len(counts) > 8:
        shorter: dict[str, int] = defaultdict(int)
        for name, count in counts.items():
            shorter[name.split('.')[0]] += count
        counts = shorter
    listed = ', '.join(f'{name} {count}' for name, count in counts.items())
    return f'  ({listed})' if listed else ''
