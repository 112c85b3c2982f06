"""SOLOv2: heads, targets, losses with both readings of the cells, detections, whole model."""

import torch
from mmengine import ConfigDict

from isda_suite.methods.iuq.adapters import SOLOv2Adapter
from isda_suite.methods.iuq.convert import ADELAIDET_SOLOV2
from isda_suite.methods.iuq.released_solov2 import dense_uniqueness, flipped_losses
from isda_suite.methods.iuq.uniqueness import UniquenessLoss
from isda_suite.registry import MODELS
from tests.golden.iuq.parts import (
    base_model,
    fill,
    gradients,
    instances,
    normalised,
    samples_of,
    tensor,
)


def _config(c):
    model = base_model('solov2_r50')
    groups = dict(type='GN', num_groups=c.get('norm_groups', 32), requires_grad=True)
    head = model.mask_head
    head.update(num_grids=c['num_grids'], strides=c['strides'], norm_cfg=groups)
    for ours, theirs in (
        ('num_classes', 'num_classes'), ('feat_channels', 'instance_channels'),
        ('stacked_convs', 'stacked_convs'), ('scale_ranges', 'scale_ranges'),
        ('pos_scale', 'pos_scale'),
    ):  # fmt: skip
        if theirs in c:
            head[ours] = c[theirs]
    head.mask_feature_head.update(
        feat_channels=c.get('mask_channels', 128), out_channels=c.get('mask_out_channels', 256),
        mask_stride=c.get('mask_stride', 4), norm_cfg=groups,
    )  # fmt: skip
    if 'dice_weight' in c:
        head.loss_mask.loss_weight = c['dice_weight']
        head.loss_cls.update(gamma=c['focal_gamma'], alpha=c['focal_alpha'])
    return model


def _head(c, params=None):
    head = MODELS.build(dict(_config(c).mask_head, test_cfg=base_model('solov2_r50').test_cfg))
    if params:
        fill(head, params, ADELAIDET_SOLOV2, 'mask_head.')
    return head


@torch.no_grad()
def run_heads(golden, case):
    """Pyramid to class maps, kernels and mask feature."""
    head = _head(case.config, case.params())
    inputs = case.inputs()
    kernels, logits, feature = head(tuple(tensor(inputs[f'p{i}']) for i in range(2, 7)))
    results = {'mask_feat': feature}
    for i, (kernel, logit) in enumerate(zip(kernels, logits, strict=True)):
        results.update({f'kernel_{i}': kernel, f'kernel_flipped_{i}': kernel, f'cate_{i}': logit})
    return results


def run_losses(golden, case):
    """Targets, or predictions to base, equivariance and uniqueness values."""
    head, c, inputs = _head(case.config), case.config, case.inputs()
    size = tuple(n // c['mask_stride'] for n in c['image_size'])
    gts = [
        instances(*parts)
        for parts in zip(inputs['gt_masks'], inputs['gt_labels'], inputs['gt_boxes'], strict=True)
    ]
    targets = [head._get_targets_single(gt, featmap_sizes=size) for gt in gts]
    if case.name == 'targets':
        results = {}
        for i, (masks, labels, _cells, indices) in enumerate(targets):
            for level in range(len(labels)):
                results[f'target_category_{i}_level{level}'] = labels[level]
                results[f'target_cells_{i}_level{level}'] = torch.tensor(
                    indices[level], dtype=torch.long
                )
                results[f'target_masks_{i}_level{level}'] = masks[level]
        return results
    leaves = {k: tensor(v).requires_grad_() for k, v in inputs.items() if not k.startswith('gt_')}
    levels = range(len(c['num_grids']))
    own, flipped = (
        [[leaves[f'{tag}_{kind}_{i}'] for i in levels] for kind in ('kernel', 'cate')]
        for tag in ('own', 'flip')
    )
    feature = leaves['mask_feat']
    adapter = SOLOv2Adapter(head)
    samples = samples_of(gts, c['image_size'])
    records = [
        adapter.record_of([level[i] for level in own[0]], feature[i], target, samples[i])
        for i, target in enumerate(targets)
    ]
    base = head.loss_by_feat(*own, feature, gts, [s.metainfo for s in samples])
    results = {'loss_ins': base['loss_mask'], 'loss_cate': base['loss_cls']}
    for prefix, legacy in (('', True), ('mirrored_grid.', False)):
        mask, cls = flipped_losses(adapter, *flipped, records, legacy_cells=legacy)
        results.update({f'{prefix}equi_loss_ins': mask, f'{prefix}equi_loss_cate': cls})
    loss = UniquenessLoss(
        mode=c['uniqueness'], keep_up_to=c['keep_up_to'], loss_weight=c['unique_weight'],
        detach=not c['uniqueness_has_gradient'],
    )  # fmt: skip
    for name in [k for k in leaves if k.startswith('memory_')]:
        number = name.removeprefix('memory_')
        value = dense_uniqueness(records, list(leaves[name].detach()), loss)
        assert value.requires_grad is False or c['uniqueness_has_gradient']
        results[f'contrast_loss_memory{number}'] = value
    return gradients(case, results, leaves)


def run_model(golden, case):
    """Images to raw outputs, or three training steps through the wrapper."""
    c, inputs = case.config, case.inputs()
    config = dict(
        type='isda_suite.IUQDetector', detector=_config(c), preset='released_solov2',
        memory=dict(num_batches=c['memory_batches']),
        uniqueness=dict(
            mode=c['uniqueness'], keep_up_to=c['keep_up_to'],
            loss_weight=c['step_factor'] * c['unique_weight'],
        ),
        equivariance=dict(loss_weight=c['step_factor'], base_weight=c['step_factor']),
    )  # fmt: skip
    detector = config['detector']
    detector.backbone.update(depth=c['depth'], style='caffe')
    model = fill(MODELS.build(config), case.params(), ADELAIDET_SOLOV2)
    if not c['training']:
        with torch.no_grad():
            features = model.eval().extract_feat(normalised(inputs['images'], c))
            kernels, logits, feature = model.mask_head(features)
        results = {'fpn_p3': features[1], 'mask_feat': feature}
        for i, (kernel, logit) in enumerate(zip(kernels, logits, strict=True)):
            results.update({f'kernel_{i}': kernel, f'cate_{i}': logit})
        return results
    model.train()
    gts = [
        instances(*parts)
        for parts in zip(inputs['gt_masks'], inputs['gt_labels'], inputs['gt_boxes'], strict=True)
    ]
    names = {
        'loss_mask': 'loss_ins', 'loss_cls': 'loss_cate', 'loss_equi': 'equi_loss_ins',
        'equi_loss_cls': 'equi_loss_cate', 'loss_unique': 'contrast_loss',
    }  # fmt: skip
    results = {}
    for number, images in enumerate(inputs['images']):
        assert len(model.terms[0].batches) == c['memory_at_step'][number]
        losses = model.loss(normalised(images, c), samples_of(gts, images.shape[-2:]))
        stored = {names[k]: v.detach() for k, v in losses.items() if k in names}
        results.update({f'step{number}.{name}': value for name, value in stored.items()})
    return results


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections."""
    head, c, inputs = _head(case.config), case.config, case.inputs()
    if case.name == 'point_nms':
        heat = tensor(inputs['heat'])
        size = c['kernel_size']
        local = torch.nn.functional.max_pool2d(heat, size, stride=1, padding=1)
        return {'point_nms': heat * (local[:, :, :-1, :-1] == heat)}
    cfg = ConfigDict(
        nms_pre=c['nms_pre'], score_thr=c['score_thr'], mask_thr=c['mask_thr'],
        filter_thr=c['update_thr'], kernel=c['matrix_nms'], sigma=c['nms_sigma'],
        max_per_img=c['max_per_img'],
    )  # fmt: skip
    meta = dict(img_shape=tuple(c['image_size']), ori_shape=tuple(c['output_size']))
    found = head._predict_by_feat_single(
        tensor(inputs['kernels']), tensor(inputs['category_scores']), tensor(inputs['mask_feat']),
        img_meta=meta, cfg=cfg,
    )  # fmt: skip
    return {
        'scores': found.scores, 'labels': found.labels, 'masks': found.masks,
        'area': found.masks.flatten(1).sum(1),
    }  # fmt: skip


RUNNERS = {
    'solov2_heads': run_heads,
    'solov2_losses': run_losses,
    'solov2_model': run_model,
    'solov2_post': run_post,
}
