"""Build IDIP from the settings of a golden file, or a small one for behaviour tests."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.idip.convert import ORIGINAL
from isda_suite.methods.idip.diffusion import DiffusionSchedule
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs/idip/idip_r50_2xb8-90k_coco.py'


def model_config(c):
    """Return the published configuration with the sizes of a golden file put in."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(depth=c['depth'], init_cfg=None)
    cfg.neck.update(out_channels=c['embed_dims'])
    cfg.data_preprocessor.update(
        mean=c['mean'], std=c['std'], bgr_to_rgb=c['bgr'], pad_size_divisor=c['pad_divisor']
    )
    head = cfg.roi_head
    head.update(
        num_classes=c['num_classes'], num_stages=c['num_stages'], embed_dims=c['embed_dims'],
        num_heads=c['num_heads'], feedforward_channels=c['feedforward_channels'],
        dynamic_channels=c['dynamic_channels'],
    )  # fmt: skip
    for part in ('box', 'mask'):
        extractor = head[f'{part}_roi_extractor']
        extractor.update(
            out_channels=c['embed_dims'], featmap_strides=c['strides'],
            finest_scale=c['finest_scale'],
        )  # fmt: skip
        extractor.roi_layer.update(
            output_size=c[f'{part}_roi_size'], sampling_ratio=c['sampling_ratio']
        )
    head.mask_head.update(with_dynamic=c['dynamic_mask'])
    _put_losses(head.loss, c)
    return cfg


def _put_losses(loss, c):
    """Put weights of losses and costs in, which only some files have."""
    terms = dict(cls='loss_cls', l1='loss_bbox', giou='loss_iou', mask='loss_mask')
    for theirs, ours in terms.items():
        if f'weight_{theirs}' in c:
            loss[ours].loss_weight = c[f'weight_{theirs}']
        if f'cost_{theirs}' in c:
            loss.assigner[f'{theirs}_weight'] = c[f'cost_{theirs}']
    for key in ('center_radius', 'candidate_topk', 'center_size'):
        if key in c:
            loss.assigner[key] = c[key]
    for key in ('alpha', 'gamma'):
        if f'focal_{key}' in c:
            loss.loss_cls[key] = loss.assigner[key] = c[f'focal_{key}']


def inference_config(c):
    """Return the options of inference that a golden file sets."""
    return dict(
        sampling_steps=min(c['sampling_steps'], c['diffusion_steps']),
        sampling_type=c['sampling_type'], deterministic=c['deterministic'],
        renewal_thr=c['renewal_threshold'], nms_iou_thr=c['nms_iou'], mask_thr=c['mask_threshold'],
        clip_before_mask=c.get('clip_before_mask', False),
    )  # fmt: skip


def build_idip(c, params):
    """Build the detector of a golden file's settings; load parameters under original names."""
    init_default_scope('mmdet')
    model = MODELS.build(model_config(c)).eval()
    state = {name: torch.from_numpy(value) for name, value in params.items()}
    missing, unexpected = model.load_state_dict(
        convert_state_dict(state, ORIGINAL)[0], strict=False
    )
    assert not unexpected
    # The original's frozen norms count no batches.
    assert not [name for name in missing if not name.endswith('num_batches_tracked')]
    return model


def set_up(model, c):
    """Set what a model can change after it was built to a case's settings."""
    model.num_proposals = c['num_proposals']
    model.schedule = DiffusionSchedule(c['diffusion_steps'], c['signal_scale'])
    model.test_cfg = inference_config(c)
    return model


def small_config(num_classes):
    """Return the configuration of a small IDIP that keeps every part."""
    init_default_scope('mmdet')
    small = {
        'depth': 18, 'embed_dims': 32, 'num_classes': num_classes, 'num_stages': 2, 'num_heads': 4,
        'feedforward_channels': 32, 'dynamic_channels': 8, 'strides': [8, 16, 32],
        'finest_scale': 112, 'box_roi_size': 3, 'mask_roi_size': 4, 'sampling_ratio': 2,
        'dynamic_mask': True, 'mean': [0.0] * 3, 'std': [1.0] * 3, 'bgr': False, 'pad_divisor': 32,
    }  # fmt: skip
    cfg = model_config(small)
    cfg.backbone.update(base_channels=8, frozen_stages=-1)
    cfg.neck.in_channels = [16, 32, 64]
    cfg.num_proposals = 12
    return cfg


def small_idip(num_classes=3, **changes):
    """Build a small IDIP: 12 proposals, 32 channels, 2 stages; ``changes`` by dotted name."""
    config = Config(dict(model=small_config(num_classes)))
    config.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    model = MODELS.build(config.model)
    model.init_weights()
    return model


def instances(size_hw, boxes, num_classes=3):
    """Make targets whose masks fill their boxes."""
    masks = np.zeros((len(boxes), *size_hw), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    return InstanceData(
        labels=torch.arange(len(boxes)) % num_classes,
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        masks=BitmapMasks(masks, *size_hw),
    )


def samples(sizes_hw, gts=(), ids=None, ori_hw=None):
    """Make data samples of some sizes, with targets and ids."""
    made = []
    for i, size in enumerate(sizes_hw):
        meta = dict(img_shape=size, ori_shape=(ori_hw or sizes_hw)[i], img_id=(ids or range(99))[i])
        made.append(DetDataSample(metainfo=meta))
        if gts:
            made[-1].gt_instances = gts[i]
    return made
