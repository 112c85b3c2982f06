"""Names of checkpoints IDIP can start from or be published in, as tables to our names.

The published code stands on detectron2, so backbone and pyramid have its names; the head's names
are ours too. Its buffers hold what our model computes or reads from its configuration. Backbones
alone come in the torchvision layout under detectron2's names, as pickled arrays (``.pkl``).
"""

from isda_suite.checkpoint.renaming import NameTable, Rule

_CAFFE2 = (
    'these are Caffe2 names, as the caffe-style ResNets of detectron2 have them (BGR, the stride '
    'in the 1x1 convolution): IDIP needs weights in the torchvision layout'
)
_CLASS_LAYER = r'roi_head\.(box_head\.fc_cls|mask_head\.logits)\.(weight|bias)'
_HEAD = Rule(r'roi_head\.(.+)', r'roi_head.\1')


def _resnet_rules(source: str) -> tuple[Rule, ...]:
    """Rename detectron2's ResNet, whose names start with ``source``."""
    rules = [
        Rule(rf'{source}stem\.conv1\.weight', 'backbone.conv1.weight'),
        Rule(rf'{source}stem\.conv1\.norm\.(.+)', r'backbone.bn1.\1'),
    ]
    for stage in (2, 3, 4, 5):
        theirs, ours = rf'{source}res{stage}\.(\d+)\.', rf'backbone.layer{stage - 1}.\1.'
        rules += [
            Rule(theirs + r'conv(\d)\.weight', ours + r'conv\2.weight'),
            Rule(theirs + r'conv(\d)\.norm\.(.+)', ours + r'bn\2.\3'),
            Rule(theirs + r'shortcut\.weight', ours + 'downsample.0.weight'),
            Rule(theirs + r'shortcut\.norm\.(.+)', ours + r'downsample.1.\2'),
        ]
    return tuple(rules)


def _pyramid_rules() -> tuple[Rule, ...]:
    rules = []
    for index in range(3):
        rules += [
            Rule(
                rf'backbone\.fpn_lateral{index + 3}\.(.+)', rf'neck.lateral_convs.{index}.conv.\1'
            ),
            Rule(rf'backbone\.fpn_output{index + 3}\.(.+)', rf'neck.fpn_convs.{index}.conv.\1'),
        ]
    return tuple(rules)


IDIP = NameTable(
    style='idip',
    rules=(
        *_resnet_rules(r'backbone\.bottom_up\.'),
        *_pyramid_rules(),
        _HEAD,
        Rule(r'alphas_cumprod|pixel_mean|pixel_std', None),
        Rule(r'backbone\.bottom_up\.stem\.fc\..+', None),
    ),
    marks=(r'backbone\.bottom_up\.stem\..+', r'roi_head\.dynamic_heads\..+'),
    not_exported=(r'backbone\..+\.num_batches_tracked',),
    class_layer=_CLASS_LAYER,
)
DETECTRON2_RESNET = NameTable(
    style='detectron2-resnet',
    rules=(*_resnet_rules(''), Rule(r'stem\.fc\..+', None)),
    marks=(r'stem\.conv1\.weight', r'res5\..+'),
)
CAFFE2_RESNET = NameTable(
    style='caffe2-resnet',
    rules=(),
    marks=(r'res\d_\d+_branch.+',),
    refused={r'res\d_\d+_branch.+': _CAFFE2},
)
OURS = NameTable(
    style='isda_suite',
    rules=(Rule(r'(.+)', r'\1'),),
    marks=(r'backbone\.layer4\..+', r'roi_head\.dynamic_heads\..+'),
    class_layer=_CLASS_LAYER,
)

TABLES = (IDIP, DETECTRON2_RESNET, CAFFE2_RESNET, OURS)
"""Every style a checkpoint may come in; ``detectron2-resnet`` fills the backbone alone, and
``caffe2-resnet`` is known to be refused with a reason."""

ORIGINAL = IDIP
"""The style of the published code, for export."""
