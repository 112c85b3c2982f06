"""Names of checkpoints SOTR is published in, as tables to our names.

Whether the backbone has deformable convolutions is told by the names alone: the published option
for fewer of them was never read, so all 30 blocks of the last three stages have them.
"""

from isda_suite.checkpoint.renaming import NameTable, Rule

_WB = '(weight|bias)'
_STATS = '(weight|bias|running_mean|running_var)'
_CLASS_LAYER = r'mask_head\.cls_branch\.(weight|bias)'
_PAIRS = 12
_STAGE = r'backbone\.bottom_up\.res{stage}\.(\d+)\.'


def _backbone() -> tuple[Rule, ...]:
    stem = r'backbone\.bottom_up\.stem\.conv1\.'
    rules = [
        Rule(stem + 'weight', 'backbone.conv1.weight'),
        Rule(stem + rf'norm\.{_STATS}', r'backbone.bn1.\1'),
    ]
    for stage in range(2, 6):
        theirs, ours = _STAGE.format(stage=stage), rf'backbone.layer{stage - 1}.\1.'
        rules += [
            Rule(theirs + r'shortcut\.weight', ours + 'downsample.0.weight'),
            Rule(theirs + rf'shortcut\.norm\.{_STATS}', ours + r'downsample.1.\2'),
            Rule(theirs + r'conv([123])\.weight', ours + r'conv\2.weight'),
            Rule(theirs + rf'conv([123])\.norm\.{_STATS}', ours + r'bn\2.\3'),
            Rule(theirs + rf'conv2_offset\.{_WB}', ours + r'conv2.conv_offset.\2'),
        ]
    return tuple(rules)


def _neck() -> tuple[Rule, ...]:
    return tuple(
        Rule(rf'backbone\.fpn_{theirs}{level + 2}\.{_WB}', rf'neck.{ours}.{level}.conv.\1')
        for level in range(4)
        for theirs, ours in (('lateral', 'lateral_convs'), ('output', 'fpn_convs'))
    )


def _transformer() -> tuple[Rule, ...]:
    """Blocks of even number are pairs of attentions, of odd number pairs of convolutions."""
    rules = []
    for layer in range(_PAIRS):
        ours = f'mask_head.transformer.layers.{layer}.'
        attend, convolve = (
            rf'cate_head\.transformer\.layers\.blocks\.{2 * layer + i}\.' for i in range(2)
        )
        for i, along in enumerate(('column', 'row')):
            place = f'{ours}{along}_attn.'
            rules += [
                Rule(rf'{attend}{i}\.fn\.g', f'{ours}{along}_gain'),
                Rule(rf'{attend}{i}\.fn\.fn\.to_q\.weight', f'{place}q_proj.weight'),
                Rule(rf'{attend}{i}\.fn\.fn\.to_kv\.weight', f'{place}kv_proj.weight'),
                Rule(rf'{attend}{i}\.fn\.fn\.to_out\.{_WB}', rf'{place}out_proj.\1'),
                Rule(rf'{convolve}{i}\.g', f'{ours}conv_gains.{i}'),
                Rule(rf'{convolve}{i}\.fn\.([02])\.{_WB}', rf'{ours}conv_branches.{i}.\1.\2'),
            ]
    return tuple(rules)


def _mask_branch() -> tuple[Rule, ...]:
    branch = 'mask_head.mask_feature_head.'
    level = r'mask_head\.convs_all_levels\.(\d)\.conv(\d)\.'
    ours = branch + r'convs_all_levels.\1.conv\2.'
    return (
        Rule(level + r'0\.weight', ours + 'conv.weight'),
        Rule(level + rf'1\.{_WB}', ours + r'gn.\3'),
        Rule(r'mask_head\.conv_pred\.0\.weight', branch + 'conv_pred.conv.weight'),
        Rule(rf'mask_head\.conv_pred\.1\.{_WB}', branch + r'conv_pred.gn.\1'),
    )


SOTR = NameTable(
    style='sotr',
    rules=(
        *_backbone(),
        *_neck(),
        *_transformer(),
        Rule(rf'cate_head\.cate_pred\.{_WB}', r'mask_head.cls_branch.\1'),
        Rule(rf'cate_head\.kernel_pred\.{_WB}', r'mask_head.kernel_branch.\1'),
        *_mask_branch(),
    ),
    marks=(r'cate_head\.cate_pred\.weight', r'cate_head\.transformer\.layers\.blocks\..+'),
    class_layer=_CLASS_LAYER,
    # Frozen norms of the published code do not count batches.
    not_exported=(r'backbone\..+\.num_batches_tracked',),
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'mask_head\.transformer\.layers\..+', r'mask_head\.cls_branch\.weight'),
    class_layer=_CLASS_LAYER,
)

TABLES = (SOTR, OURS)
"""Every style a checkpoint may come in."""

ORIGINAL = SOTR
"""The style of the published code, for export."""
