"""Build ISDA from the settings of a golden file, or a small one for behaviour tests."""

import torch
from mmdet.structures import DetDataSample
from mmengine import Config
from mmengine.registry import init_default_scope

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.isda.convert import ORIGINAL
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs' / 'isda' / 'isda_r50_3x_coco.py'


def model_config(c):
    """Return the published configuration with the sizes of a golden file put in."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(depth=c['depth'], init_cfg=None)
    cfg.num_queries, cfg.num_feature_levels = c['num_queries'], c['num_levels']
    groups = dict(type='GN', num_groups=c['norm_groups'])
    cfg.neck.update(
        in_channels=c['backbone_channels'], out_channels=c['embed_dims'],
        num_outs=len(c['neck_strides']), norm_cfg=groups,
    )  # fmt: skip
    cfg.mask_feat_head.update(
        in_channels=c['mask_feat_in_channels'], feat_channels=c['mask_feat_channels'],
        out_channels=c['mask_feat_out_channels'], norm_cfg=groups,
    )  # fmt: skip
    ffn = dict(embed_dims=c['embed_dims'], feedforward_channels=c['ffn_channels'], ffn_drop=0.1)
    points = dict(
        embed_dims=c['embed_dims'], num_heads=c['num_heads'], num_levels=c['num_levels'],
        num_points=c['num_points'],
    )  # fmt: skip
    for part, key in (('encoder', 'self_attn_cfg'), ('decoder', 'cross_attn_cfg')):
        cfg[part].num_layers = c[f'{part}_layers']
        cfg[part].layer_cfg[key].update(points)
        cfg[part].layer_cfg.ffn_cfg.update(ffn)
    cfg.decoder.layer_cfg.self_attn_cfg.update(embed_dims=c['embed_dims'], num_heads=c['num_heads'])
    cfg.positional_encoding.update(
        num_feats=c['pos_num_feats'], temperature=c['pos_temperature'],
        normalize=c['pos_normalize'], offset=c['pos_offset'],
    )  # fmt: skip
    head = cfg.bbox_head
    head.update(
        num_classes=c['num_classes'], embed_dims=c['embed_dims'],
        mask_channels=c['kernel_channels'], num_kernel_fcs=c['num_kernel_fcs'],
    )  # fmt: skip
    head.loss_cls.update(
        alpha=c['loss_cls_alpha'], gamma=c['loss_cls_gamma'], loss_weight=c['loss_cls_weight']
    )
    head.loss_mask.update(eps=c['loss_mask_eps'], loss_weight=c['loss_mask_weight'])
    costs = cfg.train_cfg.assigner.match_costs
    costs[0].update(
        weight=c['cost_cls_weight'], alpha=c['cost_cls_alpha'], gamma=c['cost_cls_gamma']
    )
    costs[1].update(weight=c['cost_mask_weight'])
    cfg.test_cfg.update(
        max_per_img=c['max_per_img'], mask_thr=c['mask_thr'], mask_score=c['mask_score']
    )
    return cfg


def build_isda(c, params=None):
    """Build the detector of a golden file's settings; load parameters under original names."""
    init_default_scope('mmdet')
    model = MODELS.build(model_config(c)).eval()
    if params is not None:
        state = {name: torch.from_numpy(value) for name, value in params.items()}
        missing, unexpected = model.load_state_dict(
            convert_state_dict(state, ORIGINAL)[0], strict=False
        )
        # Files of a part hold the parameters of that part only.
        parts = {name.split('.')[0] for name in params}
        absent = tuple(f'{part}.' for part in ('backbone', 'neck') if part not in parts)
        assert not unexpected
        assert not [name for name in missing if not name.startswith(absent)]
    return model


def build_head(c):
    """Build only the head of a golden file's settings."""
    init_default_scope('mmdet')
    cfg = model_config(c)
    return MODELS.build(
        dict(
            cfg.bbox_head,
            train_cfg=cfg.train_cfg,
            test_cfg=cfg.test_cfg,
            num_pred_layer=c['decoder_layers'],
            share_pred_layer=True,
        )
    )


def samples_of(c):
    """Make data samples that carry the image sizes of a golden file."""
    return [
        DetDataSample(
            metainfo={
                'batch_input_shape': tuple(c['batch_input_shape']),
                'img_shape': tuple(img_shape),
                'ori_shape': tuple(c.get('ori_shapes', c['img_shapes'])[i]),
            }
        )
        for i, img_shape in enumerate(c['img_shapes'])
    ]


def small_isda(num_classes, position_mode='logit', target_down='bilinear', **changes):
    """Build a small ISDA that keeps every part: 12 queries, 64 channels, two layers each."""
    return MODELS.build(small_isda_config(num_classes, position_mode, target_down, **changes))


def small_isda_config(num_classes, position_mode='logit', target_down='bilinear', **changes):
    """Return the configuration of :func:`small_isda`."""
    init_default_scope('mmdet')
    small = {
        'depth': 18, 'backbone_channels': [16, 32, 64, 128], 'norm_groups': 8,
        'num_queries': 12, 'num_levels': 4, 'neck_strides': [4, 8, 16, 32, 64],
        'embed_dims': 64, 'ffn_channels': 64, 'num_heads': 4, 'num_points': 2,
        'encoder_layers': 2, 'decoder_layers': 2, 'pos_num_feats': 32, 'pos_temperature': 10000,
        'pos_normalize': True, 'pos_offset': -0.5, 'num_classes': num_classes,
        'mask_feat_in_channels': 64, 'mask_feat_channels': 32, 'mask_feat_out_channels': 64,
        'kernel_channels': 64, 'num_kernel_fcs': 2, 'loss_cls_alpha': 0.25, 'loss_cls_gamma': 2.0,
        'loss_cls_weight': 2.0, 'loss_mask_eps': 1e-3, 'loss_mask_weight': 3.0,
        'cost_cls_weight': 2.0, 'cost_cls_alpha': 0.25, 'cost_cls_gamma': 2.0,
        'cost_mask_weight': 3.0, 'max_per_img': 100, 'mask_thr': 0.5, 'mask_score': 'foreground',
    }  # fmt: skip
    cfg = model_config(small)
    cfg.backbone.update(base_channels=16, frozen_stages=-1)
    cfg.bbox_head.update(position_mode=position_mode, target_down=target_down)
    cfg.update(changes)
    return cfg
