"""Names of checkpoints ISDA can start from or be published in, as tables to our names.

The encoder, decoder and embeddings are mmdet 3's, so our names are mmdet 3's as well. Both the
original ISDA and Deformable-DETR number the three inputs of their necks from 0; our neck has a
fourth, for stride 4, in front of them. The six class and kernel branches are one shared module
each, saved six times; the copies stay six names.
"""

from isda_suite.checkpoint.renaming import NameTable, Rule

_TWO_STAGE = (
    'this is a two-stage Deformable-DETR, whose queries come from the encoder instead of a table: '
    'ISDA needs the single-stage checkpoint without box refinement'
)
_BOX_REFINE = (
    'each decoder layer has class and box layers of its own, as box refinement makes them: ISDA '
    'shares one class layer and needs the checkpoint without box refinement'
)
_CLASS_COPIES = r'bbox_head\.cls_branches\.(?P<copy>\d+)\.(weight|bias)'
_KERNEL_COPIES = r'bbox_head\.kernel_branches\.(?P<copy>\d+)\.\d+\.(weight|bias)'
_BOX_COPIES = r'bbox_head\.reg_branches\.(?P<copy>\d+)\.\d+\.(weight|bias)'
_CLASS_LAYER = r'bbox_head\.cls_branches\.\d+\.(weight|bias)'

_BACKBONE_AND_NECK = (
    Rule(r'backbone\.(.+)', r'backbone.\1'),
    Rule(r'neck\.convs\.0\.(.+)', r'neck.convs.1.\1'),
    Rule(r'neck\.convs\.1\.(.+)', r'neck.convs.2.\1'),
    Rule(r'neck\.convs\.2\.(.+)', r'neck.convs.3.\1'),
    Rule(r'neck\.extra_convs\.0\.(.+)', r'neck.extra_convs.0.\1'),
)
_BRANCHES = (
    Rule(r'bbox_head\.cls_branches\.(.+)', r'bbox_head.cls_branches.\1'),
    Rule(r'bbox_head\.kernel_branches\.(.+)', r'bbox_head.kernel_branches.\1'),
)
_ENCODER = r'bbox_head\.transformer\.encoder\.layers\.(\d+)\.'
_DECODER = r'bbox_head\.transformer\.decoder\.layers\.(\d+)\.'
_TRANSFORMER_OF_MMDET_2 = (
    Rule(r'bbox_head\.transformer\.level_embeds', 'level_embed'),
    Rule(r'bbox_head\.transformer\.reference_points\.(.+)', r'reference_points_fc.\1'),
    Rule(r'bbox_head\.query_embedding\.weight', 'query_embedding.weight'),
    Rule(_ENCODER + r'attentions\.0\.(.+)', r'encoder.layers.\1.self_attn.\2'),
    Rule(_ENCODER + r'ffns\.0\.(.+)', r'encoder.layers.\1.ffn.\2'),
    Rule(_ENCODER + r'norms\.(.+)', r'encoder.layers.\1.norms.\2'),
    Rule(_DECODER + r'attentions\.0\.(.+)', r'decoder.layers.\1.self_attn.\2'),
    Rule(_DECODER + r'attentions\.1\.(.+)', r'decoder.layers.\1.cross_attn.\2'),
    Rule(_DECODER + r'ffns\.0\.(.+)', r'decoder.layers.\1.ffn.\2'),
    Rule(_DECODER + r'norms\.(.+)', r'decoder.layers.\1.norms.\2'),
)
_BOX_LAYERS = Rule(r'bbox_head\.reg_branches\.(.+)', None)

ISDA = NameTable(
    style='isda',
    rules=(
        Rule(r'neck\.first_conv\.(.+)', r'neck.convs.0.\1'),
        *_BACKBONE_AND_NECK,
        Rule(r'mask_feat_head\.convs_all_levels\.(.+)', r'mask_feat_head.convs_all_levels.\1'),
        Rule(r'mask_feat_head\.conv_pred\.0\.(.+)', r'mask_feat_head.conv_pred.\1'),
        *_TRANSFORMER_OF_MMDET_2,
        *_BRANCHES,
    ),
    marks=(r'bbox_head\.transformer\..+', r'bbox_head\.kernel_branches\..+'),
    copies=(_CLASS_COPIES, _KERNEL_COPIES),
    class_layer=_CLASS_LAYER,
)
MMDET2_DEFORMABLE_DETR = NameTable(
    style='mmdet2-deformable-detr',
    rules=(*_BACKBONE_AND_NECK, *_TRANSFORMER_OF_MMDET_2, *_BRANCHES[:1], _BOX_LAYERS),
    marks=(r'bbox_head\.transformer\.level_embeds', r'bbox_head\.reg_branches\..+'),
    foreign=(r'bbox_head\.kernel_branches\..+',),
    copies=(_CLASS_COPIES, _BOX_COPIES),
    refused={r'bbox_head\.transformer\.(enc_output|pos_trans).*': _TWO_STAGE},
    unequal_means=_BOX_REFINE,
    class_layer=_CLASS_LAYER,
)
MMDET3_DEFORMABLE_DETR = NameTable(
    style='mmdet3-deformable-detr',
    rules=(
        *_BACKBONE_AND_NECK,
        Rule(r'(level_embed)', r'\1'),
        Rule(r'reference_points_fc\.(.+)', r'reference_points_fc.\1'),
        Rule(r'query_embedding\.weight', 'query_embedding.weight'),
        Rule(r'encoder\.(.+)', r'encoder.\1'),
        Rule(r'decoder\.(.+)', r'decoder.\1'),
        *_BRANCHES[:1],
        _BOX_LAYERS,
    ),
    marks=(r'level_embed', r'encoder\.layers\.0\.self_attn\..+', r'bbox_head\.reg_branches\..+'),
    foreign=(r'bbox_head\.kernel_branches\..+', r'bbox_head\.transformer\..+'),
    copies=(_CLASS_COPIES, _BOX_COPIES),
    refused={r'(memory_trans|pos_trans)_.*': _TWO_STAGE},
    unequal_means=_BOX_REFINE,
    class_layer=_CLASS_LAYER,
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'level_embed', r'bbox_head\.kernel_branches\..+'),
    foreign=(r'bbox_head\.transformer\..+',),
    copies=(_CLASS_COPIES, _KERNEL_COPIES),
    class_layer=_CLASS_LAYER,
)

TABLES = (ISDA, MMDET2_DEFORMABLE_DETR, MMDET3_DEFORMABLE_DETR, OURS)
"""Every style a checkpoint may come in."""

ORIGINAL = ISDA
"""The style of the published code, for export."""
