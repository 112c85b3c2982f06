"""Small detectors of every family, and a batch with known instances."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

BASES = resource_root() / 'configs' / '_base_' / 'models'
GROUPS = dict(type='GN', num_groups=8)
MAP_FAMILIES = ('condinst', 'solov2', 'mask2former', 'isda', 'sotr', 'solq', 'sparseinst')
DOT_FAMILIES = ('solov2', 'mask2former', 'isda', 'sotr', 'sparseinst')
FAMILIES = (*MAP_FAMILIES, 'queryinst', 'idip')


def model_of(family):
    """Return the configuration of a small detector."""
    init_default_scope('mmdet')
    return globals()[f'_small_{family}']()


def build_plain(family, seed=0):
    """Build the plain detector with weights of a seed, ready to train."""
    return _build(model_of(family), seed)


def build_iuq(family, seed=0, **options):
    """Build it with IUQ around; the same seed gives the same weights."""
    options.setdefault('memory', dict(min_fill=1))
    wrapped = dict(type='isda_suite.IUQDetector', detector=model_of(family), **options)
    return _build(wrapped, seed)


def _build(config, seed):
    torch.manual_seed(seed)
    model = MODELS.build(config).train()
    for name, parameter in model.named_parameters():
        if name == 'level_embed':  # ISDA makes it without values, until weights are initialised
            torch.nn.init.normal_(parameter)
        elif 'fc_reg' in name:  # QueryInst's boxes stay inside the image, where masks are pasted
            torch.nn.init.zeros_(parameter)
        elif 'init_proposal_bboxes' in name:  # the whole image, as the initialisation sets them
            parameter.data.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]))
    return model


def batch_of(num_images=2, side=128, seed=1, num_classes=3, counts=(3, 2), first_id=0, width=None):
    """Make normalised images with rectangles as instances.

    Returns:
        Inputs (B, 3, H, W) and data samples.
    """
    state = np.random.RandomState(seed)
    height, width = side, width or side
    inputs = torch.from_numpy(state.randn(num_images, 3, height, width).astype(np.float32))
    samples = []
    for i in range(num_images):
        boxes = []
        for _ in range(counts[i % len(counts)]):
            w, h = state.randint(24, 64, 2)
            x, y = state.randint(0, width - w), state.randint(0, height - h)
            boxes.append([x, y, x + w, y + h])
        labels = torch.from_numpy(state.randint(0, num_classes, len(boxes)))
        samples.append(sample_of(boxes, labels, (height, width), first_id + i))
        for box, label in zip(boxes, labels, strict=True):  # something to see
            inputs[i, int(label), box[1] : box[3], box[0] : box[2]] += 2
    return inputs, samples


def sample_of(boxes, labels, size_hw, image_id):
    """Make a data sample whose instances fill their boxes."""
    masks = np.zeros((len(boxes), *size_hw), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    sample = DetDataSample(
        metainfo=dict(
            img_id=image_id, img_shape=size_hw, ori_shape=size_hw, pad_shape=size_hw,
            batch_input_shape=size_hw, scale_factor=(1.0, 1.0),
        )
    )  # fmt: skip
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.as_tensor(labels, dtype=torch.long),
        masks=BitmapMasks(masks, *size_hw),
    )
    return sample


def _backbone(model):
    model.backbone.update(
        depth=18, base_channels=8, init_cfg=None, frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True,
    )  # fmt: skip
    return [8, 16, 32, 64]


def _small_solov2():
    model = Config.fromfile(BASES / 'solov2_r50.py').model
    model.neck.update(in_channels=_backbone(model), out_channels=16)
    model.mask_head.update(
        num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
        num_grids=[12, 10, 8, 6, 4], norm_cfg=GROUPS,
    )  # fmt: skip
    model.mask_head.mask_feature_head.update(feat_channels=16, out_channels=16, norm_cfg=GROUPS)
    return model


def _small_condinst():
    model = Config.fromfile(BASES / 'condinst_r50.py').model
    model.neck.update(in_channels=_backbone(model), out_channels=16)
    model.bbox_head.update(
        num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1, norm_cfg=GROUPS
    )
    model.mask_head.mask_feature_head.update(
        in_channels=16, feat_channels=16, num_stacked_convs=1, norm_cfg=GROUPS
    )
    return model


def _small_mask2former():
    model = Config.fromfile(BASES / 'mask2former_r50.py').model
    head = model.panoptic_head
    head.update(
        in_channels=_backbone(model), feat_channels=16, out_channels=16, num_things_classes=3,
        num_queries=8, positional_encoding=dict(num_feats=8, normalize=True),
    )  # fmt: skip
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    model.panoptic_fusion_head.num_things_classes = 3
    model.train_cfg.num_points = 256
    model.test_cfg.max_per_image = 10
    decoder = head.pixel_decoder
    decoder.norm_cfg = GROUPS
    decoder.positional_encoding.num_feats = 8
    decoder.encoder.num_layers, head.transformer_decoder.num_layers = 1, 2
    small = dict(embed_dims=16, num_heads=2)
    decoder.encoder.layer_cfg.self_attn_cfg.update(small)
    decoder.encoder.layer_cfg.ffn_cfg.update(embed_dims=16, feedforward_channels=16)
    layer = head.transformer_decoder.layer_cfg
    layer.self_attn_cfg.update(small)
    layer.cross_attn_cfg.update(small)
    layer.ffn_cfg.update(embed_dims=16, feedforward_channels=16)
    return model


def _small_isda():
    from tests.methods.isda.build import small_isda_config

    return small_isda_config(3)


def _small_sotr():
    from tests.methods.sotr.build import small_sotr_config

    return small_sotr_config(3)


def _small_solq():
    """Without dropout, so that a second pass answers like the first."""
    from tests.methods.solq.build import small_solq_config

    model = small_solq_config(3)
    layers = [model[part].layer_cfg for part in ('encoder', 'decoder')]
    for part in [layer[key] for layer in layers for key in layer]:
        part.update(dict(ffn_drop=0.0) if 'feedforward_channels' in part else dict(dropout=0.0))
    attention = layers[1].self_attn_cfg
    attention.pop('dropout')
    attention.update(attn_drop=0.0, dropout_layer=dict(type='Dropout', drop_prob=0.0))
    return model


def _small_idip():
    from tests.methods.idip.build import small_config

    return small_config(3)


def _small_sparseinst():
    """The project's own classes where they can be imported, else a stand-in."""
    from tests.methods.iuq.sparse_inst import register

    register()
    model = Config.fromfile(BASES / 'solov2_r50.py').model
    channels = _backbone(model)
    model.backbone.out_indices = (1, 2, 3)
    binary = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='mean')
    focal = dict(type='FocalLoss', use_sigmoid=True, alpha=0.25, gamma=2.0, reduction='sum')
    return ConfigDict(
        type='SparseInst', data_preprocessor=model.data_preprocessor, backbone=model.backbone,
        encoder=dict(type='InstanceContextEncoder', in_channels=channels[1:], out_channels=16),
        decoder=dict(type='BaseIAMDecoder', in_channels=18, num_classes=3, ins_dim=16, ins_conv=1,
                     mask_dim=16, mask_conv=1, kernel_dim=16, scale_factor=2.0, num_masks=8),
        criterion=dict(
            type='SparseInstCriterion', num_classes=3,
            assigner=dict(type='SparseInstMatcher', alpha=0.8, beta=0.2),
            loss_cls=dict(focal, loss_weight=2.0), loss_obj=dict(binary, loss_weight=1.0),
            loss_mask=dict(binary, loss_weight=5.0),
            loss_dice=dict(type='DiceLoss', use_sigmoid=True, reduction='sum', eps=5e-5,
                           loss_weight=2.0),
        ),
        test_cfg=dict(score_thr=0.005, mask_thr_binary=0.45),
    )  # fmt: skip


def _small_queryinst():
    dynamic = dict(type='DynamicConv', in_channels=16, feat_channels=8, out_channels=16)
    ends = dict(act_cfg=dict(type='ReLU', inplace=True), norm_cfg=dict(type='LN'))
    box_head = dict(
        type='DIIHead', num_classes=3, num_ffn_fcs=2, num_heads=2, num_cls_fcs=1, num_reg_fcs=1,
        feedforward_channels=16, in_channels=16, dropout=0.0,
        ffn_act_cfg=dict(type='ReLU', inplace=True),
        dynamic_conv_cfg=dict(dynamic, input_feat_shape=7, **ends),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', clip_border=False,
                        target_means=[0.0] * 4, target_stds=[0.5, 0.5, 1.0, 1.0]),
    )  # fmt: skip
    mask_head = dict(
        type='DynamicMaskHead', num_convs=1, num_classes=3, roi_feat_size=14, in_channels=16,
        conv_kernel_size=3, conv_out_channels=16, class_agnostic=False, norm_cfg=GROUPS,
        dynamic_conv_cfg=dict(dynamic, input_feat_shape=14, with_proj=False, **ends),
        upsample_cfg=dict(type='deconv', scale_factor=2),
        loss_mask=dict(type='DiceLoss', loss_weight=8.0, use_sigmoid=True, activate=False,
                       eps=1e-5),
    )  # fmt: skip
    model = Config(Config.fromfile(BASES / 'solov2_r50.py').model)
    channels = _backbone(model)

    def roi(size):
        return dict(
            type='SingleRoIExtractor', out_channels=16, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=2),
        )  # fmt: skip

    costs = [
        dict(type='FocalLossCost', weight=2.0),
        dict(type='BBoxL1Cost', weight=5.0, box_format='xyxy'),
        dict(type='IoUCost', iou_mode='giou', weight=2.0),
    ]
    assigner = dict(type='HungarianAssigner', match_costs=costs)
    stage = dict(assigner=assigner, sampler=dict(type='PseudoSampler'), pos_weight=1, mask_size=28)
    return ConfigDict(
        type='QueryInst', data_preprocessor=model.data_preprocessor, backbone=model.backbone,
        neck=dict(type='FPN', in_channels=channels, out_channels=16, num_outs=4),
        rpn_head=dict(type='EmbeddingRPNHead', num_proposals=8, proposal_feature_channel=16),
        roi_head=dict(
            type='SparseRoIHead', num_stages=2, stage_loss_weights=[1, 1],
            proposal_feature_channel=16, bbox_roi_extractor=roi(7), mask_roi_extractor=roi(14),
            bbox_head=[box_head] * 2, mask_head=[mask_head] * 2,
        ),
        train_cfg=dict(rpn=None, rcnn=[stage] * 2),
        test_cfg=dict(rpn=None, rcnn=dict(max_per_img=8, mask_thr_binary=0.5)),
    )  # fmt: skip
