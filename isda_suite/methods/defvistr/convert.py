"""Names of checkpoints DefVisTR can start from or be published in, as tables to our names.

The published DefVisTR and VisTR share their names; those of models trained without masks lack the
leading ``vistr.``, and those of the DETR that VisTR starts from say ``detr.`` instead.
"""

from isda_suite.checkpoint.renaming import NameTable, Rule

from .checkpoint_fit import fit_to_model
from .head import EXTRA_LOGITS

__all__ = ['ORIGINAL', 'OURS', 'TABLES', 'fit_to_model']

_STATS = '(weight|bias|running_mean|running_var)'
_WB = '(weight|bias)'


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for one dense attention of a layer; both texts are up to the attention's name."""
    return (
        Rule(theirs + r'\.in_proj_(weight|bias)', ours + r'.attn.in_proj_\2'),
        Rule(theirs + r'\.out_proj\.(weight|bias)', ours + r'.attn.out_proj.\2'),
    )


def _layer(theirs: str, ours: str, norms: int) -> tuple[Rule, ...]:
    """Rules for the feed-forward network and the norms of a layer."""
    return (
        Rule(theirs + rf'\.linear1\.{_WB}', ours + r'.ffn.layers.0.0.\2'),
        Rule(theirs + rf'\.linear2\.{_WB}', ours + r'.ffn.layers.1.\2'),
        *(Rule(theirs + rf'\.norm{i + 1}\.{_WB}', f'{ours}.norms.{i}.\\2') for i in range(norms)),
    )


def _transformer(prefix: str) -> tuple[Rule, ...]:
    encoder, decoder = (
        prefix + rf'transformer\.{p}\.layers\.(\d+)' for p in ('encoder', 'decoder')
    )
    return (
        Rule(
            encoder
            + r'\.self_attn\.(sampling_offsets|attention_weights|value_proj|output_proj)'
            + rf'\.{_WB}',
            r'encoder.layers.\1.self_attn.\2.\3',
        ),
        *_attention(encoder + r'\.self_attn', r'encoder.layers.\1.self_attn'),
        *_layer(encoder, r'encoder.layers.\1', 2),
        *_attention(decoder + r'\.self_attn', r'decoder.layers.\1.self_attn'),
        *_attention(decoder + r'\.multihead_attn', r'decoder.layers.\1.cross_attn'),
        *_layer(decoder, r'decoder.layers.\1', 3),
        Rule(prefix + rf'transformer\.decoder\.norm\.{_WB}', r'decoder.post_norm.\1'),
    )


def _model(prefix: str) -> tuple[Rule, ...]:
    """Rules for a model without masks."""
    return (
        Rule(prefix + rf'backbone\.0\.body\.(.+)\.{_STATS}', r'backbone.\1.\2'),
        Rule(prefix + rf'input_proj\.{_WB}', r'input_proj.\1'),
        *_transformer(prefix),
        Rule(prefix + r'transformer\.instance_encoders\.weight', 'instance_tokens.weight'),
        Rule(prefix + r'query_embed\.weight', 'query_embedding.weight'),
        Rule(prefix + rf'class_embed\.{_WB}', r'head.cls_branch.\1'),
        *(
            Rule(prefix + rf'bbox_embed\.layers\.{i}\.{_WB}', rf'head.reg_branch.{2 * i}.\1')
            for i in range(3)
        ),
    )


_MASKS = (
    Rule(r'bbox_attention\.(.+)', r'head.mask_branch.bbox_attention.\1'),
    Rule(r'mask_head\.(.+)', r'head.mask_branch.mask_head.\1'),
    Rule(r'insmask_head\.(.+)', r'head.mask_branch.insmask_head.\1'),
)

_CLASS_LAYER = r'head\.cls_branch\.(weight|bias)'
_COUNTERS = (r'backbone\..+\.num_batches_tracked',)
_DEFORMABLE = r'transformer\.encoder\.layers\.0\.self_attn\.sampling_offsets\.weight'
_DENSE = r'transformer\.encoder\.layers\.0\.self_attn\.in_proj_weight'
_OTHER_DETECTORS = (r'transformer\.level_embed', r'.*input_proj\.0\..+')


def _table(style: str, prefix: str, mark: str, masks: tuple[Rule, ...] = ()) -> NameTable:
    return NameTable(
        style=style,
        rules=(*_model(prefix), *masks),
        marks=(prefix + mark,),
        foreign=_OTHER_DETECTORS,
        class_layer=_CLASS_LAYER,
        extra_outputs=EXTRA_LOGITS,
        not_exported=_COUNTERS,
    )


DEFVISTR = _table('defvistr', r'vistr\.', _DEFORMABLE, _MASKS)
VISTR = _table('vistr', r'vistr\.', _DENSE, _MASKS)
DEFVISTR_BOXES = _table('defvistr-boxes', '', _DEFORMABLE)
VISTR_BOXES = _table('vistr-boxes', '', _DENSE)
DETR = NameTable(
    style='detr',
    rules=(
        # Classes and queries of pictures say nothing about clips.
        Rule(r'detr\.(class_embed|query_embed)\..+', None),
        *_model(r'detr\.'),
        # DETR ends its mask head with two convolutions, where VisTR has a deformable one.
        Rule(r'mask_head\.(lay5|out_lay)\..+', None),
        *_MASKS,
    ),
    marks=(r'detr\.' + _DENSE,),
    class_layer=_CLASS_LAYER,
    extra_outputs=EXTRA_LOGITS,
)
DEFORMABLE_DETR = NameTable(
    style='deformable-detr',
    # Another width, number of levels and points, another decoder: the backbone is all there is.
    rules=(
        Rule(rf'backbone\.0\.body\.(.+)\.{_STATS}', r'backbone.\1.\2'),
        Rule('.+', None),
    ),
    marks=(r'transformer\.level_embed', r'backbone\.0\.body\.conv1\.weight'),
)
MMDET_DEFORMABLE_DETR = NameTable(
    style='mmdet-deformable-detr',
    rules=(Rule(r'backbone\.(.+)', r'backbone.\1'), Rule('.+', None)),
    marks=(r'(bbox_head\.transformer\.)?level_embeds?', r'backbone\.conv1\.weight'),
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'query_embedding\.weight', r'head\.cls_branch\.weight', r'decoder\.post_norm\.weight'),
    class_layer=_CLASS_LAYER,
    extra_outputs=EXTRA_LOGITS,
)

TABLES = (
    DEFVISTR,
    VISTR,
    DETR,
    DEFORMABLE_DETR,
    MMDET_DEFORMABLE_DETR,
    DEFVISTR_BOXES,
    VISTR_BOXES,
    OURS,
)
"""Every style a checkpoint may come in. A DETR without masks has the names of ``vistr-boxes``."""

ORIGINAL = DEFVISTR
"""The style of the published code, for export; the rules of VisTR are the same."""
