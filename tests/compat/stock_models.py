"""Models from the config files inside the wheels of mmdet and mmseg, made small for tests."""

from importlib.util import find_spec
from pathlib import Path

import torch

from isda_suite.compat.gloo import without_sync_bn


def stock_model_cfg(package, file):
    """The model part of a config in a wheel, without weights to download."""
    from mmengine.config import Config

    folder = Path(find_spec(package).origin).parent / '.mim' / 'configs'
    model = without_sync_bn(Config.fromfile(folder / file).model)
    model.pop('pretrained', None)
    model.backbone.pop('init_cfg', None)
    if model.backbone.type == 'ResNet':
        model.backbone.frozen_stages = 0
    return model


def make_smaller(name, model):
    """Cut what costs time and does not change which operators run."""
    if name == 'mask2former':
        model.data_preprocessor.batch_augments = None  # pads to 1024 x 1024
        model.panoptic_head.num_queries = 8
        model.panoptic_head.num_transformer_feat_level = 3
        model.panoptic_head.pixel_decoder.encoder.num_layers = 1
        model.panoptic_head.transformer_decoder.num_layers = 2
        model.train_cfg.num_points = 256
        model.test_cfg.max_per_image = 5
    elif name in ('deformable_detr', 'dino'):
        model.num_queries = 20
        model.encoder.num_layers = 1
        model.decoder.num_layers = 2
        model.test_cfg.max_per_img = 5
    elif model.type in ('MaskRCNN', 'FasterRCNN'):
        model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = 20
        model.train_cfg.rcnn.sampler.num = 16
    return model


def build(registry, cfg, scope):
    from mmengine.registry import DefaultScope, init_default_scope

    before = DefaultScope.get_current_instance()
    init_default_scope(scope)
    try:
        torch.manual_seed(0)
        model = registry.build(cfg)
        model.init_weights()
        return model
    finally:
        if before is not None:
            init_default_scope(before.scope_name)
