"""Names of checkpoints SOLQ is published in, as tables to our names.

The published files hold the box layers twice and the shared mask branch six times, under further
names; those are dropped on import and written on export.
"""

import re
from collections.abc import Mapping

from mmengine.model import BaseModule
from torch import Tensor

from isda_suite.checkpoint.renaming import NameTable, Rule

_WB = '(weight|bias)'
_STATS = '(weight|bias|running_mean|running_var)'
_CLASS_LAYER = r'bbox_head\.cls_branches\.\d+\.(weight|bias)'
_DEFORMABLE = rf'(sampling_offsets|attention_weights|value_proj|output_proj)\.{_WB}'
_ENCODER = r'transformer\.encoder\.layers\.(\d+)\.'
_DECODER = r'transformer\.decoder\.layers\.(\d+)\.'
_LAYERS = 6
# The published classes are the category ids of COCO, 0 to 90, of which these have no objects.
_PUBLISHED_CLASSES = 91
_UNUSED_IDS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
_COCO_IDS = [i for i in range(_PUBLISHED_CLASSES) if i not in _UNUSED_IDS]


def _ffn(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(rf'{theirs}linear1\.{_WB}', rf'{ours}.layers.\1.ffn.layers.0.0.\2'),
        Rule(rf'{theirs}linear2\.{_WB}', rf'{ours}.layers.\1.ffn.layers.1.\2'),
    )


def _norms(theirs: str, ours: str, order: tuple[int, ...]) -> tuple[Rule, ...]:
    return tuple(
        Rule(rf'{theirs}norm{number}\.{_WB}', rf'{ours}.layers.\1.norms.{i}.\2')
        for i, number in enumerate(order)
    )


_INPUT_PROJECTIONS = tuple(
    rule
    for level, ours in enumerate(('convs.0', 'convs.1', 'convs.2', 'extra_convs.0'))
    for rule in (
        Rule(rf'input_proj\.{level}\.0\.{_WB}', rf'neck.{ours}.conv.\1'),
        Rule(rf'input_proj\.{level}\.1\.{_WB}', rf'neck.{ours}.gn.\1'),
    )
)
_TRANSFORMER = (
    Rule(r'query_embed\.weight', 'query_embedding.weight'),
    Rule(r'transformer\.level_embed', 'level_embed'),
    Rule(rf'transformer\.reference_points\.{_WB}', r'reference_points_fc.\1'),
    Rule(rf'{_ENCODER}self_attn\.{_DEFORMABLE}', r'encoder.layers.\1.self_attn.\2.\3'),
    *_ffn(_ENCODER, 'encoder'),
    *_norms(_ENCODER, 'encoder', (1, 2)),
    Rule(rf'{_DECODER}self_attn\.in_proj_{_WB}', r'decoder.layers.\1.self_attn.attn.in_proj_\2'),
    Rule(rf'{_DECODER}self_attn\.out_proj\.{_WB}', r'decoder.layers.\1.self_attn.attn.out_proj.\2'),
    Rule(rf'{_DECODER}cross_attn\.{_DEFORMABLE}', r'decoder.layers.\1.cross_attn.\2.\3'),
    *_ffn(_DECODER, 'decoder'),
    # Its second norm follows the self-attention, its first one the cross-attention.
    *_norms(_DECODER, 'decoder', (2, 1, 3)),
)
_HEADS = (
    Rule(rf'class_embed\.(\d+)\.{_WB}', r'bbox_head.cls_branches.\1.\2'),
    *(
        Rule(rf'bbox_embed\.(\d+)\.layers\.{i}\.{_WB}', rf'bbox_head.reg_branches.\1.{2 * i}.\2')
        for i in range(3)
    ),
    *(
        Rule(rf'vector_embed\.0\.layers\.{i}\.{_WB}', rf'bbox_head.vector_branch.{2 * i}.\1')
        for i in range(3)
    ),
)

SOLQ = NameTable(
    style='solq',
    rules=(
        Rule(rf'backbone\.0\.body\.(.+)\.{_STATS}', r'backbone.\1.\2'),
        *_INPUT_PROJECTIONS,
        *_TRANSFORMER,
        *_HEADS,
        Rule(r'transformer\.decoder\.bbox_embed\..+', None),
        Rule(r'vector_embed\.[1-9]\d*\..+', None),
    ),
    marks=(r'vector_embed\.0\..+', r'transformer\.level_embed'),
    copies=(
        r'(?P<copy>transformer\.decoder\.|)bbox_embed\..+',
        r'vector_embed\.(?P<copy>\d+)\..+',
    ),
    aliases=(
        Rule(r'(bbox_embed\..+)', r'transformer.decoder.\1'),
        *(Rule(r'vector_embed\.0\.(.+)', rf'vector_embed.{i}.\1') for i in range(1, _LAYERS)),
    ),
    class_layer=_CLASS_LAYER,
    not_exported=(r'backbone\..+\.num_batches_tracked',),
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'bbox_head\.vector_branch\..+', r'level_embed'),
    class_layer=_CLASS_LAYER,
)

TABLES = (SOLQ, OURS)
"""Every style a checkpoint may come in."""

ORIGINAL = SOLQ
"""The style of the published code, for export."""


def fit_to_model(
    state: Mapping[str, Tensor], model: BaseModule
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Take the rows of the 80 COCO classes where the model has these and the checkpoint 91 ids.

    Args:
        state: Entries under our names.
        model: The model they are for; may be without memory.

    Returns:
        The entries to keep, the names left out (none), and a note on what was done.
    """
    kept = dict(state)
    layer = [
        name
        for name, value in state.items()
        if re.fullmatch(_CLASS_LAYER, name) and len(value) == _PUBLISHED_CLASSES
    ]
    if not layer or model.bbox_head.num_classes != len(_COCO_IDS):
        return kept, [], []
    kept.update({name: state[name][_COCO_IDS] for name in layer})
    note = f'class layers: the rows of the {len(_COCO_IDS)} COCO classes of {_PUBLISHED_CLASSES}'
    return kept, [], [note]
