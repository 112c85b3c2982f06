"""SOTR against numbers recorded from the original implementation.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import numpy as np
import pytest
import torch
from mmdet.models.utils import center_of_mass
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from isda_suite.methods.sotr.postprocess import point_nms
from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.methods.samples import samples_of
from tests.methods.sotr.build import build_head, build_sotr

# What the original gets wrong there, measured by its authors' recording: masks enlarged by 3
# instead of 4. Ours must be another.
FAULTY = ('short_area', 'short_masks')


def _tensors(inputs):
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}


def _ground_truth(inputs):
    return [
        InstanceData(
            bboxes=torch.as_tensor(boxes, dtype=torch.float32),
            labels=torch.as_tensor(labels),
            masks=BitmapMasks(masks, *masks.shape[1:]),
        )
        for boxes, labels, masks in zip(
            inputs['gt_boxes'], inputs['gt_labels'], inputs['gt_masks'], strict=True
        )
    ]


def _levels(inputs, name, number):
    return [inputs[f'{name}_{i}'] for i in range(number)]


def _raw(kernels, logits, feature):
    result = {'mask_feat': feature}
    result.update({f'cate_{i}': x for i, x in enumerate(logits)})
    return result | {f'kernel_{i}': x for i, x in enumerate(kernels)}


@torch.no_grad()
def run_heads(golden, case):
    """Neck maps to raw outputs; or the transformer alone, half a layer at a time."""
    head = build_head(case.config, case.params())
    inputs = _tensors(case.inputs())
    if 'x' in inputs:
        transformer = head.transformer
        states = [transformer.enter(inputs['x'])]
        for layer in transformer.layers:
            states.append(layer.attend(states[-1]))
            states.append(layer.convolve(states[-1]))
        result = {f'transformer_state_before_block{i}': x for i, x in enumerate(states)}
        return result | {'transformer_output': transformer(inputs['x'])}
    feats = [inputs[f'p{level}'] for level in range(2, 7)]
    resized = head.resize_feats(feats)
    result = _raw(*head(feats)) | {f'split_{i}': x for i, x in enumerate(resized)}
    return result | {'p5_transformed': head.mask_feature(feats)[1]}


def run_losses(golden, case):
    """Objects to targets, and raw outputs to losses and gradients."""
    head = build_head(case.config)
    inputs = case.inputs()
    if 'masks' in inputs:
        return _reduced(head, inputs['masks'], case.config['scale'])
    gts = _ground_truth(inputs)
    c = case.config
    size_hw = tuple(side // c['mask_stride'] for side in c['padded_size'])
    metas = [dict(img_shape=tuple(size)) for size in c['image_sizes']]
    for gt in gts:  # padded as mmdet hands them over
        gt.masks = gt.masks.pad(c['padded_size'])
    targets = head.targets_of(gts, metas, size_hw)
    result = {}
    for i, (masks, labels, _, indices) in enumerate(targets):
        centres = [center_of_mass(mask) for mask in gts[i].masks.to_tensor(torch.bool, 'cpu')]
        result[f'mass_centre_{i}'] = torch.tensor([(x, y) for y, x in centres])
        for level in range(len(labels)):
            end = f'_{i}_level{level}'
            result[f'target_category{end}'] = labels[level]
            result[f'target_cells{end}'] = torch.as_tensor(indices[level], dtype=torch.long)
            result[f'target_area{end}'] = masks[level].sum((1, 2))
            result[f'target_masks{end}'] = masks[level].bool()
    if 'mask' not in inputs:
        return result
    leaves = {k: v.requires_grad_() for k, v in _tensors(inputs).items() if torch.is_tensor(v)}
    number = len(c['num_grids'])
    losses = head.loss_by_feat(
        _levels(leaves, 'kernel', number), _levels(leaves, 'cate', number), leaves['mask'], gts,
        metas,
    )  # fmt: skip
    (losses['loss_mask'] + losses['loss_cls']).backward()
    result.update(loss_ins=losses['loss_mask'], loss_cate=losses['loss_cls'])
    result['positive_cells'] = sum(int(level.sum()) for image in targets for level in image[2])
    result['mask_targets'] = sum(len(level) for image in targets for level in image[0])
    result['grad_mask'] = leaves['mask'].grad
    return result | {f'grad_norm.{k}': v.grad for k, v in leaves.items()}


def _reduced(head, masks, scale):
    """Reduce masks through the head: objects of the whole image, one each."""
    assert scale == 1 / head.mask_stride
    reduced = []
    for mask in masks:
        height, width = mask.shape
        gt = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, width, height]]),
            labels=torch.tensor([0]),
            masks=BitmapMasks(mask[None], height, width),
        )
        size_hw = (height // head.mask_stride, width // head.mask_stride)
        targets = head.targets_of([gt], [dict(img_shape=mask.shape)], size_hw)[0][0][0]
        reduced.append(targets[0] if len(targets) else torch.zeros(size_hw, dtype=torch.uint8))
    return {'reduced': torch.stack(reduced)}


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections."""
    head = build_head(case.config)
    inputs, c = _tensors(case.inputs()), case.config
    number = len(c['num_grids'])
    logits, kernels = _levels(inputs, 'logits', number), _levels(inputs, 'kernels', number)
    meta = dict(img_shape=c['image_size'], ori_shape=c['original_size'])
    found = head.predict_by_feat(kernels, logits, inputs['mask_feat'], [meta])[0]
    kept = [point_nms(x.sigmoid()) for x in logits]
    return {
        'count': len(found),
        f'{case.name}_scores': found.scores,
        f'{case.name}_labels': found.labels,
        f'{case.name}_area': found.masks.sum((1, 2)),
        f'{case.name}_masks': found.masks,
        'point_nms_level3': kept[3][0].permute(1, 2, 0),
        'candidates_above_score_thr': sum(int((x > c['score_thr']).sum()) for x in kept),
    }


@torch.no_grad()
def run_model(golden, case):
    """Image to raw outputs and losses."""
    model = build_sotr(case.config, case.params())
    inputs, c = case.inputs(), case.config
    images = [torch.from_numpy(image) for image in inputs['images']]
    gts = _ground_truth(inputs)
    samples = samples_of(c['padded_size'], [c['image_size']], gts)
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    assert data['inputs'].shape[2:] == tuple(c['padded_size'])
    feats = model.extract_feat(data['inputs'])
    result = _raw(*model.mask_head(feats)) | {f'p{i + 2}': x for i, x in enumerate(feats)}
    result['p5_transformed'] = model.mask_head.mask_feature(feats)[1]
    losses = model.mask_head.loss(feats, data['data_samples'])
    return result | {'loss_ins': losses['loss_mask'], 'loss_cate': losses['loss_cls']}


RUNNERS = {'heads': run_heads, 'losses': run_losses, 'post': run_post, 'model': run_model}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('sotr_*.json'))
def test_part_equals_the_original(golden, case):
    """Every stored output of every case is within the file's tolerance."""
    result = RUNNERS[golden.std['part']](golden, case)
    for name, output in case.outputs.items():
        if name in FAULTY:
            with pytest.raises(AssertionError):
                check(result[name], output)
        else:
            check(result[name], output)
