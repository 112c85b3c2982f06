"""Build ISDNet from the settings of a golden file, or a small one for behaviour tests."""

import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.isdnet.convert import ORIGINAL
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs' / 'isdnet' / 'isdnet_1224x1224_80k_deepglobe.py'


def published():
    """Return the published configuration of the model, without pretrained weights or padding."""
    cfg = Config.fromfile(CONFIG).model
    cfg.data_preprocessor.size = None
    cfg.backbone.init_cfg = cfg.shallow_branch.init_cfg = None
    return cfg


def model_config(c):
    """Return the published configuration with the settings of a golden file put in."""
    cfg = published()
    norm = dict(type=c['norm'], eps=c['bn_eps'], momentum=c['bn_momentum'])
    cfg.update(num_levels=c['pyramid_levels'], deep_ratio=c['deep_down_scale'])
    cfg.backbone.update(
        depth=c['depth'], strides=c['backbone_strides'], dilations=c['backbone_dilations'],
        norm_cfg=norm,
    )  # fmt: skip
    cfg.decode_head.update(
        in_channels=c['aspp_in_channels'], channels=c['aspp_channels'],
        dilations=c['aspp_dilations'],
    )  # fmt: skip
    cfg.auxiliary_head.update(in_channels=c['aux_in_channels'], channels=c['aux_channels'])
    cfg.auxiliary_head.loss_decode.loss_weight = c['loss_aux_weight']
    cfg.shallow_branch.update(
        in_channels=c['stdc_in_channels'], channels=c['stdc_channels'], norm_cfg=norm
    )
    cfg.refine_head.update(
        shallow_channels=c['stdc_channels'][-2:], deep_channels=c['aspp_channels'],
        channels=c['raf_channels'], num_groups=c['raf_groups'],
    )  # fmt: skip
    cfg.refine_head.loss_recon.loss_weight = c['loss_recon_weight']
    cfg.refine_head.loss_distill.loss_weight = c['loss_fa_weight']
    for head in (cfg.decode_head, cfg.auxiliary_head, cfg.refine_head):
        head.update(
            num_classes=c['num_classes'], norm_cfg=norm, align_corners=c['align_corners'],
            ignore_index=c['ignore_index'],
        )  # fmt: skip
        if 'dropout_ratio' in c:
            head.dropout_ratio = c['dropout_ratio']
    return cfg


def build_isdnet(c, params=None):
    """Build the segmentor of a golden file's settings; load parameters under original names."""
    init_default_scope('mmseg')
    model = MODELS.build(model_config(c)).eval()
    if params is not None:
        state = {name: torch.from_numpy(value) for name, value in params.items()}
        model.load_state_dict(convert_state_dict(state, ORIGINAL)[0])
    return model


def samples_of(labels, **meta):
    """Make data samples of labels (B, 1, H, W)."""
    samples = []
    for label in labels:
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return samples


def small_isdnet(num_classes=3, norm_cfg=None, **changes):
    """Build a small ISDNet that keeps every part."""
    init_default_scope('mmseg')
    cfg = published()
    norm_cfg = norm_cfg or dict(type='BN')
    cfg.backbone.update(base_channels=8, stem_channels=8, norm_cfg=norm_cfg)
    cfg.decode_head.update(in_channels=64, channels=32, norm_cfg=norm_cfg)
    cfg.auxiliary_head.update(in_channels=32, channels=16, norm_cfg=norm_cfg)
    cfg.shallow_branch.update(channels=(8, 16, 32, 64), norm_cfg=norm_cfg)
    cfg.refine_head.update(
        shallow_channels=(32, 64), deep_channels=32, channels=32, num_groups=8, norm_cfg=norm_cfg
    )
    for head in (cfg.decode_head, cfg.auxiliary_head, cfg.refine_head):
        head.num_classes = num_classes
    whole = Config({'model': cfg})
    whole.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return MODELS.build(whole.model)


def lively_isdnet(**changes):
    """Build a small ISDNet whose normalisations and gains let every part matter, to evaluate."""
    torch.manual_seed(0)
    model = small_isdnet(**changes).eval()
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith('_gain'):
            parameter.data.fill_(0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(1, 0.2)
            module.bias.data.normal_()
    return model
