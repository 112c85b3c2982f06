"""SOLQ against numbers recorded from the original implementation.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from isda_suite.methods.solq.loss import code_masks, query_errors
from isda_suite.methods.solq.postprocess import detect
from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.methods.samples import samples_of
from tests.methods.solq.build import build_head, build_solq

TERMS = {'ce': 'loss_cls', 'bbox': 'loss_bbox', 'giou': 'loss_iou', 'vector': 'loss_vector'}


def _tensors(inputs):
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}


@torch.no_grad()
def run_heads(golden, case):
    """Backbone maps to raw outputs, with padding."""
    c = case.config
    model = build_solq(c, case.params())
    inputs = _tensors(case.inputs())
    samples = samples_of(c['padded_size'], c['image_sizes'])
    padding = torch.ones_like(inputs['padding_mask'])
    for row, (height, width) in zip(padding, c['image_sizes'], strict=True):
        row[:height, :width] = False
    assert torch.equal(padding, inputs['padding_mask'])
    feats = model.neck([inputs[f'feature_{stride}'] for stride in (8, 16, 32)])
    encoder_inputs, _ = model.pre_transformer(feats, samples)
    memory = model.forward_encoder(**encoder_inputs)['memory']
    head_inputs = model.forward_transformer(feats, samples)
    logits, boxes, vectors = model.bbox_head(**head_inputs)
    first, *references = head_inputs['references']
    height, width = feats[-1].shape[-2:]
    return {
        'hidden': head_inputs['hidden_states'],
        'initial_reference': first,
        'references': torch.stack(references),
        'logits': logits,
        'boxes': boxes,
        'vectors': vectors,
        'encoder_last_level': memory[:, -height * width :].mT.unflatten(2, (height, width)),
    }


def _ground_truth(inputs, c):
    gts = []
    for boxes, labels, masks in zip(
        inputs['gt_boxes'], inputs['gt_labels'], inputs['gt_masks'], strict=True
    ):
        gt = InstanceData(bboxes=torch.as_tensor(boxes, dtype=torch.float32))
        gt.labels = torch.as_tensor(labels)
        gt.masks = BitmapMasks(masks, *masks.shape[1:])
        gts.append(gt)
    padded = [max(size) for size in zip(*c['image_sizes'], strict=True)]
    for gt in gts:  # padded as mmdet hands them over
        gt.masks = gt.masks.pad(padded)
    return gts


def run_losses(golden, case):
    """Raw outputs and objects to matches, loss terms and gradients."""
    c, inputs = case.config, case.inputs()
    head, last = build_head(c), c['decoder_layers'] - 1
    gts = _ground_truth(inputs, c)
    metas = [dict(img_shape=tuple(size)) for size in c['image_sizes']]
    leaves = {k: v.requires_grad_() for k, v in _tensors(inputs).items() if torch.is_tensor(v)}
    all_cls, all_boxes, all_codes = (
        torch.stack([leaves[f'{name}_{layer}'] for layer in range(last + 1)])
        for name in ('logits', 'boxes', 'vectors')
    )
    losses = head.loss_by_feat(all_cls, all_boxes, all_codes, gts, metas)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    result = {'weighted_total': total}
    for layer in range(last + 1):
        start, end = ('', '') if layer == last else (f'd{layer}.', f'_{layer}')
        for theirs, ours in TERMS.items():
            weight = c['loss_weights'][theirs]
            result[f'loss_{theirs}{end}'] = losses[start + ours] / weight
        matches = head.match(all_cls[layer], all_boxes[layer], gts, metas)
        errors = query_errors(all_cls[layer], matches, gts)
        result.update({name + end: value for name, value in errors.items()})
        for image, match in enumerate(matches):
            pairs = torch.stack([match.query_inds, match.gt_inds])
            result[f'match_layer{layer}_image{image}'] = pairs
        for theirs, ours in (('logits', 'logits'), ('boxes', 'boxes'), ('vectors', 'vectors')):
            grad = leaves[f'{ours}_{layer}'].grad
            result[f'grad_norm.pred_{theirs}.layer{layer}'] = grad
    assert losses['class_error'] == result['class_error']
    codes = [code_masks(gt, head.mask_coder)[m.gt_inds] for gt, m in zip(gts, matches, strict=True)]
    result[f'target_vectors_layer{last}'] = torch.cat(codes)
    cells = head.mask_coder.cells
    return result | {'zigzag': cells[:, 0] * c['mask_len'] + cells[:, 1]}


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections; the recorded boxes are not cut at the image."""
    head, c = build_head(case.config), case.config
    inputs = _tensors(case.inputs())
    found = detect(
        inputs['logits'][0], inputs['boxes'][0], inputs['vectors'][0], head.mask_coder,
        tuple(c['original_size']), **head.test_cfg, clip_boxes=False,
    )  # fmt: skip
    result = {name: found.get(name) for name in ('scores', 'labels', 'masks')}
    return result | {'boxes': found.bboxes, 'area': found.masks.sum((1, 2))}


RUNNERS = {'heads': run_heads, 'losses': run_losses, 'post': run_post}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('solq_*.json'))
def test_part_equals_the_original(golden, case):
    """Every stored output of every case is within the file's tolerance."""
    result = RUNNERS[golden.std['part']](golden, case)
    for name, output in case.outputs.items():
        check(result[name], output)
