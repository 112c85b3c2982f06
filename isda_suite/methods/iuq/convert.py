"""Names of checkpoints of the base models, as tables to mmdet 3's names.

IUQ adds no parameter, and no weights of it were published. What can be converted are its base
models: SOLOv2 and CondInst of AdelaiDet, Mask2Former of mmdet 2. Our names are mmdet 3's.
"""

from torch import Tensor

from isda_suite.checkpoint.renaming import NameTable, Rule


def _backbone_of_detectron2(first_level: int) -> tuple[Rule, ...]:
    """Name a residual network with feature pyramid; levels are counted from ``first_level``."""
    bottom = r'backbone\.bottom_up\.'
    stem = bottom + r'stem\.conv1\.'
    rules = [
        Rule(stem + r'norm\.(.+)', r'backbone.bn1.\1'),
        Rule(stem + r'(weight)', r'backbone.conv1.\1'),
    ]
    for stage in range(2, 6):
        block, ours = bottom + rf'res{stage}\.(\d+)\.', rf'backbone.layer{stage - 1}.\1.'
        rules += [
            Rule(block + r'shortcut\.norm\.(.+)', ours + r'downsample.1.\2'),
            Rule(block + r'shortcut\.(weight)', ours + r'downsample.0.\2'),
            Rule(block + r'conv(\d)\.norm\.(.+)', ours + r'bn\2.\3'),
            Rule(block + r'conv(\d)\.(weight)', ours + r'conv\2.\3'),
        ]
    for level in range(first_level, 6):
        for theirs, name in (('lateral', 'lateral_convs'), ('output', 'fpn_convs')):
            target = rf'neck.{name}.{level - first_level}.conv.\1'
            rules.append(Rule(rf'backbone\.fpn_{theirs}{level}\.(.+)', target))
    return tuple(rules)


def _tower(source: str, target: str) -> tuple[Rule, ...]:
    """Name four layers of convolution, normalisation and activation, numbered in threes."""
    return tuple(
        rule
        for layer in range(4)
        for rule in (
            Rule(rf'{source}\.{3 * layer}\.(.+)', rf'{target}.{layer}.conv.\1'),
            Rule(rf'{source}\.{3 * layer + 1}\.(.+)', rf'{target}.{layer}.gn.\1'),
        )
    )


def _as_number(scale: Tensor) -> Tensor:
    return scale.reshape(())


def _as_vector(scale: Tensor) -> Tensor:
    return scale.reshape(1)


_MASK_LEVEL = r'mask_head\.convs_all_levels\.(\d+)\.conv(\d+)\.'
_OUR_MASK_LEVEL = r'mask_head.mask_feature_head.convs_all_levels.\1.conv\2.'

ADELAIDET_SOLOV2 = NameTable(
    style='adelaidet-solov2',
    rules=(
        *_backbone_of_detectron2(2),
        *_tower(r'ins_head\.cate_tower', 'mask_head.cls_convs'),
        *_tower(r'ins_head\.kernel_tower', 'mask_head.kernel_convs'),
        Rule(r'ins_head\.cate_pred\.(.+)', r'mask_head.conv_cls.\1'),
        Rule(r'ins_head\.kernel_pred\.(.+)', r'mask_head.conv_kernel.\1'),
        Rule(_MASK_LEVEL + r'0\.(.+)', _OUR_MASK_LEVEL + r'conv.\3'),
        Rule(_MASK_LEVEL + r'1\.(.+)', _OUR_MASK_LEVEL + r'gn.\3'),
        Rule(r'mask_head\.conv_pred\.0\.(.+)', r'mask_head.mask_feature_head.conv_pred.conv.\1'),
        Rule(r'mask_head\.conv_pred\.1\.(.+)', r'mask_head.mask_feature_head.conv_pred.gn.\1'),
    ),
    marks=(r'ins_head\..+',),
    class_layer=r'mask_head\.conv_cls\.(weight|bias)',
)

_FCOS = r'proposal_generator\.fcos_head'
_REFINED = r'mask_head.mask_feature_head.convs_all_levels.\1.conv\1.'
_BRANCH = r'mask_head.mask_feature_head.conv_branch.\1.'

ADELAIDET_CONDINST = NameTable(
    style='adelaidet-condinst',
    rules=(
        *_backbone_of_detectron2(3),
        Rule(r'backbone\.top_block\.p6\.(.+)', r'neck.fpn_convs.3.conv.\1'),
        Rule(r'backbone\.top_block\.p7\.(.+)', r'neck.fpn_convs.4.conv.\1'),
        *_tower(_FCOS + r'\.cls_tower', 'bbox_head.cls_convs'),
        *_tower(_FCOS + r'\.bbox_tower', 'bbox_head.reg_convs'),
        Rule(_FCOS + r'\.cls_logits\.(.+)', r'bbox_head.conv_cls.\1'),
        Rule(_FCOS + r'\.bbox_pred\.(.+)', r'bbox_head.conv_reg.\1'),
        Rule(_FCOS + r'\.ctrness\.(.+)', r'bbox_head.conv_centerness.\1'),
        # A vector of one number there, a number here.
        Rule(_FCOS + r'\.scales\.(\d+)\.scale', r'bbox_head.scales.\1.scale', _as_number,
             _as_vector),
        Rule(r'controller\.(.+)', r'bbox_head.controller.\1'),
        Rule(r'mask_branch\.refine\.(\d+)\.0\.(.+)', _REFINED + r'conv.\2'),
        Rule(r'mask_branch\.refine\.(\d+)\.1\.(.+)', _REFINED + r'bn.\2'),
        Rule(r'mask_branch\.tower\.(\d+)\.0\.(.+)', _BRANCH + r'conv.\2'),
        Rule(r'mask_branch\.tower\.(\d+)\.1\.(.+)', _BRANCH + r'bn.\2'),
        Rule(r'mask_branch\.tower\.4\.(weight|bias)',
             r'mask_head.mask_feature_head.conv_pred.\1'),
        Rule(r'mask_head\.(sizes_of_interest|_iter)', None),
    ),
    marks=(r'controller\..+', r'mask_branch\..+'),
    class_layer=r'bbox_head\.conv_cls\.(weight|bias)',
)  # fmt: skip

_ENCODER = r'(panoptic_head\.pixel_decoder\.encoder\.layers\.\d+)\.'
_DECODER = r'(panoptic_head\.transformer_decoder\.layers\.\d+)\.'

MMDET2_MASK2FORMER = NameTable(
    style='mmdet2-mask2former',
    rules=(
        Rule(_ENCODER + r'attentions\.0\.(.+)', r'\1.self_attn.\2'),
        Rule(_ENCODER + r'ffns\.0\.(.+)', r'\1.ffn.\2'),
        Rule(_DECODER + r'attentions\.0\.(.+)', r'\1.cross_attn.\2'),
        Rule(_DECODER + r'attentions\.1\.(.+)', r'\1.self_attn.\2'),
        Rule(_DECODER + r'ffns\.0\.(.+)', r'\1.ffn.\2'),
        Rule(r'(panoptic_head\.(?!.*(?:attentions|ffns)\.).+)', r'\1'),
        Rule(r'(backbone\..+)', r'\1'),
    ),
    marks=(r'panoptic_head\..*\.attentions\.0\..+',),
    class_layer=r'panoptic_head\.cls_embed\.(weight|bias)',
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'(bbox_head|mask_head|panoptic_head)\..+',),
    foreign=(
        r'backbone\.bottom_up\..+',
        r'.+\.attentions\.0\..+',
        r'ins_head\..+',
        r'controller\..+',
    ),
)

TABLES = (ADELAIDET_SOLOV2, ADELAIDET_CONDINST, MMDET2_MASK2FORMER, OURS)
"""Every style a checkpoint may come in."""

ORIGINAL = ADELAIDET_SOLOV2
"""The style for export: that of the base model whose IUQ code was published in full."""
