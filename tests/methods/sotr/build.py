"""Build SOTR from the settings of a golden file, or a small one for behaviour tests."""

import torch
from mmengine import Config
from mmengine.registry import init_default_scope

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.sotr.convert import ORIGINAL
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs' / 'sotr' / 'sotr_r50_4xb2-300k_coco.py'
TRANSFORMER = ('duplicate', 'pos_embed', 'with_cp', 'num_heads')
TEST = {
    'nms_pre': 'nms_pre',
    'mask_thr': 'mask_thr',
    'update_thr': 'filter_thr',
    'max_per_img': 'max_per_img',
    'sigma': 'sigma',
    'score_thr': 'score_thr',
}


def head_config(c):
    """Return the head of the published configuration with the sizes of a golden file put in."""
    model = Config.fromfile(CONFIG).model
    head = model.mask_head
    head.update(
        num_classes=c['num_classes'], in_channels=c['embed_dims'], num_grids=c['num_grids'],
        strides=c['strides'],
    )  # fmt: skip
    head.transformer.update(depth=c['transformer_depth'], num_heads=c['num_heads'])
    head.mask_feature_head.update(
        feat_channels=c['mask_channels'], out_channels=c['mask_out_channels'],
        mask_stride=c['mask_stride'], norm_cfg=dict(type='GN', num_groups=c['norm_groups']),
    )  # fmt: skip
    assert c['kernel_channels'] == c['mask_out_channels']
    if 'dice_weight' in c:
        head.update(pos_scale=c['sigma'], scale_ranges=c['scale_ranges'])
        head.loss_mask.update(loss_weight=c['dice_weight'])
        head.loss_cls.update(
            loss_weight=c['focal_weight'], alpha=c['focal_alpha'], gamma=c['focal_gamma']
        )
    test_cfg = dict(model.test_cfg)
    test_cfg |= {ours: c[theirs] for theirs, ours in TEST.items() if 'nms_pre' in c}
    if 'nms_type' in c:
        test_cfg['kernel'] = 'hard' if c['nms_type'] == 'mask' else c['nms_kernel']
    head.test_cfg = test_cfg
    return head


def build_head(c, params=None):
    """Build the head of a golden file's settings; load parameters under original names."""
    init_default_scope('mmdet')
    head = MODELS.build(head_config(c)).eval()
    if params:
        start = 'mask_head.'
        state = convert_state_dict(_tensors(params), ORIGINAL)[0]
        assert all(name.startswith(start) for name in state)
        head.load_state_dict({name.removeprefix(start): v for name, v in state.items()})
    return head


def build_sotr(c, params):
    """Build the whole model of a golden file's settings with its parameters."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG).model
    cfg.mask_head = head_config(c)
    cfg.backbone.update(depth=c['depth'], init_cfg=None)
    cfg.data_preprocessor.update(mean=c['pixel_mean'], std=c['pixel_std'])
    model = MODELS.build(cfg).eval()
    state = convert_state_dict(_tensors(params), ORIGINAL)[0]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith('num_batches_tracked') for name in missing)
    return model


def small_sotr(num_classes, **changes):
    """Build a small SOTR that keeps every part: 32 channels, two layers, grids up to 8."""
    return MODELS.build(small_sotr_config(num_classes, **changes))


def small_sotr_config(num_classes, **changes):
    """Return the configuration of :func:`small_sotr`."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None)
    cfg.backbone.update(norm_cfg=dict(type='BN', requires_grad=True), style='pytorch')
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    head = cfg.mask_head
    head.update(num_classes=num_classes, in_channels=32, num_grids=[8, 8, 6, 4, 2])
    head.update(scale_ranges=((1, 24), (16, 32), (24, 48), (32, 64), (48, 2048)))
    head.transformer.update(depth=2, num_heads=4)
    head.mask_feature_head.update(
        feat_channels=16, out_channels=32, norm_cfg=dict(type='GN', num_groups=4)
    )
    for key, value in changes.items():
        part = (
            head.transformer if key in ('duplicate', 'pos_embed', 'with_cp', 'num_heads') else head
        )
        part[key] = value
    return cfg


def _tensors(params):
    return {name: torch.from_numpy(value) for name, value in params.items()}
