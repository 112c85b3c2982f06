"""Put a checkpoint into a model and say what fitted.

mmengine loads what fits and mentions the rest in a warning, so a checkpoint of another model ends
as an evaluation of random weights. Here a strict load is an error with counts and names, and a
loose one (fine-tuning) still needs at least half of the parameters.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from .errors import CheckpointError
from .list_lengths import explain_lengths
from .old_offsets import rename_old_offsets
from .safe_load import install_safe_loading, load_file

SHOWN = 5  # names per list in a message
_CLASS_LAYER = re.compile(r'(^|[._])(cls|fc_cls|conv_cls|conv_seg|class)(_|\.|$)')


@dataclass(frozen=True)
class ShapeMismatch:
    """A parameter whose shape differs between checkpoint and model."""

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def is_class_layer(self) -> bool:
        """Tell whether only the number of classes differs."""
        return (
            bool(_CLASS_LAYER.search(self.name))
            and len(self.found) == len(self.expected) > 0
            and self.found[1:] == self.expected[1:]
        )


@dataclass
class LoadReport:
    """What of a checkpoint went into a model.

    Args:
        source: Name of the checkpoint.
        matched: Entries of the model that were filled.
        missing: Entries of the model the checkpoint lacks.
        unexpected: Entries of the checkpoint the model lacks.
        mismatched: Entries of both with different shapes; they were not loaded.
        classes: Class names stored in the checkpoint, ``None`` if there are none.
        meta: The checkpoint's ``meta``.
    """

    source: str
    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[ShapeMismatch]
    classes: tuple[str, ...] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every entry of both sides found its partner."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Write counts, first names, and a table of shapes."""
        lines = [
            f'{self.source}: {len(self.matched)} entries matched, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape'
        ]
        for title, names in (('missing', self.missing), ('unexpected', self.unexpected)):
            if names:
                lines.append(f'  {title}: {first_names(names)}')
        if self.mismatched:
            width = max(len(m.name) for m in self.mismatched[: 4 * SHOWN])
            lines.append(f'  {"of another shape":{width}}  checkpoint -> model')
            for m in self.mismatched[: 4 * SHOWN]:
                lines.append(f'  {m.name:{width}}  {m.found} -> {m.expected}')
            if len(self.mismatched) > 4 * SHOWN:
                lines.append(f'  ... and {len(self.mismatched) - 4 * SHOWN} more')
        return '\n'.join(lines)


def load_into(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    strict: bool = True,
    trust: bool = False,
    classes: Sequence[str] | None = None,
) -> LoadReport:
    """Load a checkpoint into a model.

    Args:
        model: The model; a distributed wrapper is looked through.
        source: Path or address (``https://``, ``torchvision://``) of a checkpoint, or what was
            read from one (with or without the key ``state_dict``).
        strict: Every entry must match, in name and shape, and class names must agree. Otherwise
            what does not match is left as it is and listed in the log.
        trust: Read files that may run code.
        classes: Class names of the data the model is for, compared with those in the checkpoint.
            ``None`` takes those of ``model.dataset_meta``, if it has any.

    Returns:
        What was matched and what was not.

    Raises:
        CheckpointError: if a strict load does not match, or under half of the model's parameters
            match in a loose one. The model may then be partly filled.
    """
    checkpoint = _read(source, trust) if isinstance(source, str | Path) else source
    name = str(source) if isinstance(source, str | Path) else 'the given weights'
    target = _unwrap(model)
    report = _fill(target, state_dict_of(checkpoint, name), name)
    _add_meta(report, checkpoint)
    if classes is None:
        classes = (getattr(target, 'dataset_meta', None) or {}).get('classes')
    require_fit(report, target, strict, classes)
    return report


def compare(model: nn.Module, checkpoint: Mapping[str, Any], name: str) -> LoadReport:
    """Compare a checkpoint with a model by names and shapes, without loading it.

    Args:
        model: The model; a distributed wrapper is looked through.
        checkpoint: What was read from the file.
        name: What messages call it.

    Returns:
        What would match and what would not.

    Raises:
        CheckpointError: if there are no tensors.
    """
    state = state_dict_of(checkpoint, name)
    shapes = _shapes(_unwrap(model))
    rename_old_offsets(state, shapes)
    mismatched = _find_mismatches(state, shapes)
    skip = {m.name for m in mismatched}
    report = LoadReport(
        name,
        matched=[key for key in shapes if key in state and key not in skip],
        missing=[key for key in shapes if key not in state and not _is_counter(key)],
        unexpected=[key for key in state if key not in shapes],
        mismatched=mismatched,
    )
    _add_meta(report, checkpoint)
    return report


def require_fit(
    report: LoadReport, model: nn.Module, strict: bool, classes: Sequence[str] | None = None
) -> None:
    """Refuse a checkpoint that does not fit; list in the log what a loose load leaves out.

    A model may say more about shapes that differ: ``explain_mismatches(mismatched) -> str``; and
    how many outputs its class layer has beside the classes: ``extra_class_outputs``.

    Args:
        report: From :func:`compare` or :func:`load_into`.
        model: The model it is for.
        strict: As for :func:`load_into`.
        classes: Class names of the data; ``None`` if they are not known.

    Raises:
        CheckpointError: as for :func:`load_into`.
    """
    naming = _compare_classes(report.classes, classes)
    explain = getattr(_unwrap(model), 'explain_mismatches', None)
    special = explain(report.mismatched) if explain and report.mismatched else ''
    if strict and (naming or not report.complete):
        hint = _explain_class_layers(report.mismatched, _unwrap(model))
        shared = [*report.matched, *(m.name for m in report.mismatched)]
        lengths = explain_lengths(shared, report.missing, report.unexpected)
        reasons = (f'{report}', hint, lengths, special, naming)
        raise CheckpointError('\n'.join(reason for reason in reasons if reason))
    _require_half(_unwrap(model), report)
    if naming or not report.complete:
        print_log('\n'.join(s for s in (f'{report}', special, naming) if s), logger='current')


def state_dict_of(checkpoint: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """Find the tensors of a checkpoint and drop the ``module.`` of distributed training.

    Args:
        checkpoint: What was read from the file.
        name: What messages call it.

    Returns:
        Entry name to tensor.

    Raises:
        CheckpointError: if there are no tensors.
    """
    state = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            state = checkpoint[key]
            break
    tensors = {re.sub(r'^module\.', '', k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(
            f'{name} holds no tensors; its keys are {first_names([str(k) for k in checkpoint])}, '
            "expected the key 'state_dict'"
        )
    return tensors


def class_names_of(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Read class names from a checkpoint's ``meta`` as mmdet 2, mmdet 3 and mmseg write them."""
    inner = meta.get('dataset_meta')
    for place in (inner if isinstance(inner, Mapping) else {}, meta):
        for key in ('classes', 'CLASSES'):
            names = place.get(key)
            if isinstance(names, list | tuple) and names:
                return tuple(str(name) for name in names)
    return None


def _read(source: str | Path, trust: bool) -> dict[str, Any]:
    if '://' not in str(source):
        return load_file(source, trust=trust)
    from mmengine.runner import CheckpointLoader

    install_safe_loading(trust)
    return dict(CheckpointLoader.load_checkpoint(str(source), map_location='cpu'))


def _fill(target: nn.Module, state: dict[str, Tensor], name: str) -> LoadReport:
    shapes = _shapes(target)
    rename_old_offsets(state, shapes)
    mismatched = _find_mismatches(state, shapes)
    skip = {m.name for m in mismatched}
    # The model's own hooks may still rename old entries, so its answer counts, not the names here.
    rest = target.load_state_dict({k: v for k, v in state.items() if k not in skip}, strict=False)
    missing = [k for k in rest.missing_keys if k not in skip and not _is_counter(k)]
    absent = skip.union(rest.missing_keys)
    matched = [key for key in shapes if key not in absent]
    return LoadReport(name, matched, missing, list(rest.unexpected_keys), mismatched)


def _shapes(target: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in target.state_dict().items()}


def _find_mismatches(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> list[ShapeMismatch]:
    return [
        ShapeMismatch(key, tuple(value.shape), shapes[key])
        for key, value in state.items()
        if key in shapes and tuple(value.shape) != shapes[key]
    ]


def _add_meta(report: LoadReport, checkpoint: Mapping[str, Any]) -> None:
    meta = checkpoint.get('meta')
    report.meta = dict(meta) if isinstance(meta, Mapping) else {}
    report.classes = class_names_of(report.meta)


def _is_counter(name: str) -> bool:
    """Batch norm's step counter, absent in old files and unused in every config of ours."""
    return name.endswith('num_batches_tracked')


def _unwrap(model: nn.Module) -> nn.Module:
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


def _require_half(target: nn.Module, report: LoadReport) -> None:
    parameters = {name for name, _ in target.named_parameters(remove_duplicate=False)}
    matched = len(parameters.intersection(report.matched))
    if 2 * matched < len(parameters):
        raise CheckpointError(
            f'{report}\nonly {matched} of {len(parameters)} parameters match, under half: is this '
            'the checkpoint of another model? Weights of other code go through '
            'tools/convert_checkpoint.py first; for a backbone alone use '
            "init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone')"
        )


def _explain_class_layers(mismatched: list[ShapeMismatch], model: nn.Module) -> str:
    layers = [m for m in mismatched if m.is_class_layer()]
    if not layers:
        return ''
    found, expected = layers[0].found[0], layers[0].expected[0]
    extra = getattr(model, 'extra_class_outputs', 0)
    return (
        f'the class layer {layers[0].name} has {found} outputs in the checkpoint and {expected} in '
        f'the model: set num_classes in the config to fit the checkpoint, or fine-tune with '
        'load_from, which leaves that layer new, or drop it with '
        f'tools/convert_checkpoint.py --num-classes {expected - extra}'
    )


def _compare_classes(found: Sequence[str] | None, wanted: Sequence[str] | None) -> str:
    if not found or not wanted or tuple(found) == tuple(wanted):
        return ''
    if sorted(found) == sorted(wanted):
        at = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        return (
            f'the classes of the checkpoint stand in another order than those of the data: number '
            f'{at} is {found[at]!r} in the checkpoint and {wanted[at]!r} in the data; give '
            'metainfo=dict(classes=...) in the order of the checkpoint'
        )
    only_found = [c for c in found if c not in wanted]
    only_wanted = [c for c in wanted if c not in found]
    return (
        f'the checkpoint knows {len(found)} classes, the data {len(wanted)}; only in the '
        f'checkpoint: {first_names(only_found)}; only in the data: {first_names(only_wanted)}'
    )


def first_names(names: Sequence[str]) -> str:
    """List at most five names for a message, and say how many there are."""
    rest = f', ... ({len(names)} in all)' if len(names) > SHOWN else ''
    return (', '.join(names[:SHOWN]) or 'none') + rest
