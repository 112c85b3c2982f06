"""Names of the checkpoints ISDNet can start from or be published in, as tables to our names.

Backbone, deep head and auxiliary head are mmseg's and keep their names. The original saves each
tensor of the shallow branch twice; the second names are dropped on import and written on export.
Two of its classifiers are named after the other's input.
"""

from isda_suite.checkpoint.renaming import NameTable, Rule

_STAGES = ('0', '1', '2.0', '2.1', '3.0', '3.1')
_ALIASED = ('x2', 'x4', 'x8', 'x8', 'x16', 'x16')
_HEAD = r'refine_head\.'
_CLASS_LAYER = (
    r'(decode_head|auxiliary_head)\.conv_seg\.(weight|bias)'
    r'|refine_head\.(conv_seg|context_seg8|context_seg16)\.predict\.(weight|bias)'
)


def _stdc_rules(source: str, target: str) -> tuple[Rule, ...]:
    """Rename the six modules of STDC-Seg's ``features`` to mmseg's stages."""
    rules = []
    for number, stage in enumerate(_STAGES):
        start, place = rf'{source}features\.{number}\.', f'{target}stages.{stage}.'
        if number < 2:
            rules.append(Rule(start + '(.+)', place + r'\1'))
            continue
        rules += [
            Rule(start + r'conv_list\.(.+)', place + r'layers.\1'),
            Rule(start + r'avd_layer\.0\.(.+)', place + r'downsample.conv.\1'),
            Rule(start + r'avd_layer\.1\.(.+)', place + r'downsample.bn.\1'),
        ]
    return tuple(rules)


def _fusion_rules(name: str) -> tuple[Rule, ...]:
    start, place = rf'{_HEAD}{name}\.', f'refine_head.{name}.'
    attentions = tuple(
        Rule(rf'{start}{side}_att\.{theirs}\.(.+)', rf'{place}{side}_attention.{ours}.\1')
        for side in ('spatial', 'context')
        for theirs, ours in (('conv_bn_relu', 'project'), ('conv_1x1', 'pooled'))
    )
    return (
        Rule(f'{start}g1', f'{place}spatial_gain'),
        Rule(f'{start}g2', f'{place}context_gain'),
        *attentions,
        *(
            Rule(rf'{start}{part}\.(.+)', rf'{place}{part}.\1')
            for part in ('spatial_mlp', 'context_mlp', 'context_head', 'smooth')
        ),
    )


def _predictor_rules(source: str, target: str) -> tuple[Rule, ...]:
    return (
        Rule(rf'{_HEAD}{source}\.conv_bn_relu\.(.+)', rf'refine_head.{target}.conv.\1'),
        Rule(rf'{_HEAD}{source}\.conv_out\.(.+)', rf'refine_head.{target}.predict.\1'),
    )


ISDNET = NameTable(
    style='isdnet',
    rules=(
        Rule(r'backbone\.(.+)', r'backbone.\1'),
        Rule(r'decode_head\.(.+)', r'decode_head.\1'),
        Rule(r'auxiliary_head\.(.+)', r'auxiliary_head.\1'),
        *_stdc_rules(_HEAD + r'stdc_net\.', 'shallow_branch.'),
        Rule(_HEAD + r'stdc_net\.x\d+\.0\..+', None),
        *_fusion_rules('fuse16'),
        *_fusion_rules('fuse8'),
        Rule(_HEAD + r'reduce\.conv1\.(.+)', r'refine_head.reduce.conv.\1'),
        Rule(_HEAD + r'reduce\.bn1\.(.+)', r'refine_head.reduce.bn.\1'),
        *_predictor_rules(r'sr_decoder\.conv_sr', 'sr_decoder.to_image'),
        *(
            Rule(rf'{_HEAD}sr_decoder\.{part}\.(.+)', rf'refine_head.sr_decoder.{part}.\1')
            for part in ('conv1', 'conv2', 'conv3')
        ),
        *_predictor_rules('conv_seg', 'conv_seg'),
        # Compat: `conv_seg_aux_16` reads the 1/8 map and `conv_seg_aux_8` the 1/16 one.
        *_predictor_rules('conv_seg_aux_16', 'context_seg8'),
        *_predictor_rules('conv_seg_aux_8', 'context_seg16'),
    ),
    marks=(r'refine_head\.stdc_net\.features\..+', r'refine_head\.fuse16\.g1'),
    aliases=tuple(
        Rule(
            rf'refine_head\.stdc_net\.features\.{number}\.(.+)',
            rf'refine_head.stdc_net.{alias}.0.{number}.\1',
        )
        for number, alias in enumerate(_ALIASED)
    ),
    class_layer=_CLASS_LAYER,
)
STDC_SEG = NameTable(
    style='stdc-seg',
    rules=(*_stdc_rules('', ''), Rule('.+', None)),  # the last stage and the ImageNet classifier
    marks=(r'features\.0\.conv\.weight', r'features\.5\.conv_list\..+'),
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'shallow_branch\.stages\..+', r'refine_head\.fuse16\..+'),
    class_layer=_CLASS_LAYER,
)

TABLES = (ISDNET, STDC_SEG, OURS)
"""Every style a checkpoint may come in; ``stdc-seg`` gives the names of the shallow branch alone,
for ``init_cfg`` of it."""

ORIGINAL = ISDNET
"""The style of the published code, for export."""
