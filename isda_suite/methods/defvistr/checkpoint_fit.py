"""Fit renamed weights to a model: shorter clips, other variants, and what cannot be fitted."""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import ShapeMismatch

State = dict[str, Tensor]

OFFSETS = 'encoder.layers.0.self_attn.sampling_offsets.weight'
QUERIES = 'query_embedding.weight'
TOKENS = 'instance_tokens.weight'
_LEVELED = re.compile(
    r'encoder\.layers\.\d+\.self_attn\.(sampling_offsets|attention_weights)\.(weight|bias)'
)
_ENCODER_ATTENTION = re.compile(r'encoder\.layers\.\d+\.self_attn\..+')
_BLOCKS = re.compile(r'backbone\.(layer\d)\.(\d+)\..+')


def fit_to_model(
    state: Mapping[str, Tensor], model: BaseModule
) -> tuple[State, list[str], list[str]]:
    """Fit the entries of a checkpoint to a model of this room.

    * A backbone of another depth is refused: it would leave blocks random, or be cut.
    * The encoder's attention is left out if the one side is dense and the other deformable.
    * For a shorter clip, the levels of the first frames (and of the token grid) are kept.
    * Parts the model does not have are left out, and a table of queries that does not fit.

    Args:
        state: Entries under our names.
        model: The model they are for; may be without memory.

    Returns:
        The entries to keep, the names left out, and notes on what was done.

    Raises:
        CheckpointError: if the backbone is another, or the clips of the model are longer.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    kept, notes = dict(state), []
    _require_backbone(kept, shapes)
    notes += _drop_other_attention(kept, shapes)
    notes += _cut_levels(kept, shapes, model)
    notes += _fit_queries(kept, shapes, model)
    notes += _drop_absent_parts(kept, shapes)
    return kept, [name for name in state if name not in kept], notes


def explain_clip_length(mismatched: list[ShapeMismatch], model: BaseModule) -> str:
    """Say which clip length a checkpoint has if that is why its shapes differ; else nothing."""
    encoder = model.encoder
    for m in mismatched:
        per_level = _values_per_level(m.name, encoder)
        if per_level and m.found[1:] == m.expected[1:] and m.found[0] % per_level == 0:
            difference = (m.expected[0] - m.found[0]) // per_level
            found = model.num_frames - difference
            break
    else:
        queries = [m for m in mismatched if m.name == QUERIES]
        per_frame = 1 if model.variant.slots else model.num_instances
        if not queries or queries[0].found[0] % per_frame:
            return ''
        found = queries[0].found[0] // per_frame
    return (
        f'the checkpoint is made for clips of {found} frames, the model for {model.num_frames}: '
        f'set num_frames={found} and sample clips of that length, or cut the checkpoint to shorter '
        'clips with tools/convert_checkpoint.py --method defvistr --config CONFIG'
    )


def _values_per_level(name: str, encoder: Any) -> int:
    """How many outputs of an offset or weight projection belong to one level; 0 for others."""
    found = _LEVELED.fullmatch(name)
    if not found or not hasattr(encoder, 'token_grid'):
        return 0
    attention = encoder.layers[0].self_attn
    values = 2 if found[1] == 'sampling_offsets' else 1
    return int(attention.num_heads * attention.num_points * values)


def _require_backbone(state: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
    found = {k: tuple(v.shape) for k, v in state.items() if _is_backbone(k)}
    wanted = {k: v for k, v in shapes.items() if _is_backbone(k)}
    if not found or found == wanted:
        return
    example = next(k for k in [*wanted, *found] if found.get(k) != wanted.get(k))
    raise CheckpointError(
        f'the backbone of the checkpoint has {_describe(found)}, that of the config '
        f'{_describe(wanted)} (first difference: {example} {found.get(example)} -> '
        f'{wanted.get(example)}): set depth and the other options of model.backbone to those of '
        'the checkpoint (ResNet-50 has 3, 4, 6, 3 blocks, ResNet-101 has 3, 4, 23, 3)'
    )


def _is_backbone(name: str) -> bool:
    return name.startswith('backbone.') and not name.endswith('num_batches_tracked')


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    blocks: dict[str, set[str]] = {}
    for name in shapes:
        found = _BLOCKS.fullmatch(name)
        if found:
            blocks.setdefault(found[1], set()).add(found[2])
    return ', '.join(str(len(blocks[stage])) for stage in sorted(blocks)) + ' blocks'


def _drop(state: State, names: list[str], reason: str) -> list[str]:
    for name in names:
        del state[name]
    return [f'{reason} ({len(names)} entries left out)'] if names else []


def _drop_other_attention(state: State, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    names = [k for k in state if _ENCODER_ATTENTION.fullmatch(k) and k not in shapes]
    ours, theirs = ('deformable', 'dense') if OFFSETS in shapes else ('dense', 'deformable')
    return _drop(
        state, names, f"the encoder's attention is {theirs} there and {ours} here: it stays new"
    )


def _cut_levels(state: State, shapes: Mapping[str, tuple[int, ...]], model: Any) -> list[str]:
    """Keep the levels of the first frames, and of the grid of tokens."""
    per_level = _values_per_level(OFFSETS, model.encoder)
    if not per_level or OFFSETS not in state or state[OFFSETS].shape[0] % per_level:
        return []
    has_grid, wants_grid = TOKENS in state, TOKENS in shapes
    found = state[OFFSETS].shape[0] // per_level - has_grid
    wanted = model.num_frames
    names = [name for name in state if _LEVELED.fullmatch(name)]
    if wants_grid and not has_grid:
        return _drop(
            state, names, 'the checkpoint has no level of instance tokens: offsets and weights of '
            'the encoder stay new'
        )  # fmt: skip
    if wanted > found:
        raise CheckpointError(
            f'the checkpoint is made for clips of {found} frames, the config for {wanted}: clips '
            f'can be made shorter, not longer; set num_frames to at most {found}'
        )
    if wanted == found and wants_grid == has_grid:
        return []
    levels = [*range(wanted), *([found] if wants_grid else [])]
    heads = model.encoder.layers[0].self_attn.num_heads
    for name in names:
        value = state[name]
        by_level = value.view(heads, found + has_grid, -1, *value.shape[1:])
        state[name] = by_level[:, levels].reshape(-1, *value.shape[1:])
    grid = ' and of the instance tokens' if wants_grid else ''
    return [
        f'the encoder keeps the levels of the first {wanted} of {found} frames{grid} '
        f'({len(names)} entries cut)'
    ]


def _fit_queries(state: State, shapes: Mapping[str, tuple[int, ...]], model: Any) -> list[str]:
    """Keep the queries of the first frames where rows stand for frames, else none."""
    table = state.get(QUERIES)
    if table is None or tuple(table.shape) == shapes[QUERIES]:
        return []
    rows, wanted = len(table), shapes[QUERIES][0]
    per_frame = 1 if model.variant.slots else model.num_instances
    had_slots = TOKENS in state
    by_frame = model.query_layout == 'instance_major' and had_slots == model.variant.slots
    if table.shape[1:] != shapes[QUERIES][1:] or not by_frame or rows % per_frame or rows < wanted:
        reason = f'the table of {rows} queries does not fit {wanted} queries: it stays new'
        return _drop(state, [QUERIES], reason)
    state[QUERIES] = table[:wanted].clone()
    return [f'the queries of the first {wanted // per_frame} frames are kept ({wanted} of {rows})']


def _drop_absent_parts(state: State, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    notes = []
    for prefix, what in (('instance_tokens.', 'instance tokens'), ('head.mask_branch.', 'masks')):
        if not any(name.startswith(prefix) for name in shapes):
            names = [name for name in state if name.startswith(prefix)]
            notes += _drop(state, names, f'the model has no {what}')
    return notes
