"""Build SOLQ from the settings of a golden file, or a small one for behaviour tests."""

import torch
from mmengine import Config
from mmengine.registry import init_default_scope

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.solq.convert import ORIGINAL
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs' / 'solq' / 'solq_r50_8xb4-50e_coco.py'


def model_config(c):
    """Return the published configuration with the sizes of a golden file put in."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.init_cfg = None
    cfg.num_queries = c['num_queries']
    head = cfg.bbox_head
    head.num_classes = c['num_classes']
    if 'num_kept' in c:
        _put_network(cfg, c)
    if 'mask_len' in c:
        head.mask_coder.update(size=c['mask_len'], keep=c['n_keep'])
    if 'cost_class' in c:
        costs = cfg.train_cfg.assigner.match_costs
        costs[0].update(weight=c['cost_class'], alpha=c['focal_alpha'])
        costs[1].update(weight=c['cost_bbox'])
        costs[2].update(weight=c['cost_giou'])
        weights = c['loss_weights']
        head.loss_cls.update(loss_weight=weights['ce'], alpha=c['focal_alpha'])
        head.loss_bbox.loss_weight = weights['bbox']
        head.loss_iou.loss_weight = weights['giou']
        head.loss_vector.loss_weight = weights['vector'] * c['vector_coef']
    if 'top' in c:
        cfg.test_cfg.update(max_per_img=c['top'], mask_thr=c['paste'])
    return cfg


def _put_network(cfg, c):
    cfg.num_feature_levels = c['num_levels']
    cfg.neck.update(
        in_channels=c['in_channels'], out_channels=c['embed_dims'], num_outs=c['num_levels'],
        norm_cfg=dict(type='GN', num_groups=c.get('norm_groups', 32)),
    )  # fmt: skip
    points = dict(
        embed_dims=c['embed_dims'], num_heads=c['num_heads'], num_levels=c['num_levels'],
        num_points=c['num_points'],
    )  # fmt: skip
    ffn = dict(embed_dims=c['embed_dims'], feedforward_channels=c['feedforward_channels'])
    for part, key in (('encoder', 'self_attn_cfg'), ('decoder', 'cross_attn_cfg')):
        cfg[part].num_layers = c[f'{part}_layers']
        cfg[part].layer_cfg[key].update(points)
        cfg[part].layer_cfg.ffn_cfg.update(ffn)
    cfg.decoder.layer_cfg.self_attn_cfg.update(embed_dims=c['embed_dims'], num_heads=c['num_heads'])
    cfg.positional_encoding.num_feats = c['embed_dims'] // 2
    cfg.bbox_head.update(embed_dims=c['embed_dims'], vector_hidden_dims=c['vector_hidden_dim'])
    cfg.bbox_head.mask_coder.keep = c['num_kept']


def build_solq(c, params):
    """Build the detector of a golden file's settings; load parameters under original names."""
    init_default_scope('mmdet')
    assert c['box_refine'] and not c['two_stage']
    model = MODELS.build(model_config(c)).eval()
    state = {name: torch.from_numpy(value) for name, value in params.items()}
    missing, unexpected = model.load_state_dict(
        convert_state_dict(state, ORIGINAL)[0], strict=False
    )
    assert not unexpected
    assert all(name.startswith('backbone.') for name in missing)
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
            num_pred_layer=c.get('decoder_layers', 6),
            share_pred_layer=False,
        )
    )


def small_solq(num_classes, **changes):
    """Build a small SOLQ that keeps every part: 12 queries, 32 channels, two layers each."""
    return MODELS.build(small_solq_config(num_classes, **changes))


def small_solq_config(num_classes, **changes):
    """Return the configuration of :func:`small_solq`."""
    init_default_scope('mmdet')
    small = {
        'num_queries': 12, 'num_classes': num_classes, 'num_levels': 4, 'embed_dims': 32,
        'in_channels': [16, 32, 64], 'num_heads': 4, 'num_points': 2, 'feedforward_channels': 64,
        'encoder_layers': 2, 'decoder_layers': 2, 'vector_hidden_dim': 32, 'num_kept': 40,
        'norm_groups': 8,
    }  # fmt: skip
    cfg = model_config(small)
    cfg.backbone.update(depth=18, base_channels=8, frozen_stages=-1)
    cfg.backbone.norm_cfg.requires_grad = True
    cfg.bbox_head.mask_coder.size = 32
    cfg.bbox_head.update({k: v for k, v in changes.items() if k in cfg.bbox_head or k in HEAD})
    cfg.update({k: v for k, v in changes.items() if k in TOP})
    return cfg


HEAD = ('vector_start_layer', 'log_errors')
TOP = ('as_two_stage', 'with_box_refine')
