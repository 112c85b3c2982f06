"""Matching, losses, gradients, running statistics, and a step of training."""

import copy

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from isda_suite.checkpoint.renaming import convert_state_dict, invert
from isda_suite.methods.idip.convert import ORIGINAL
from isda_suite.methods.idip.loss import Stage
from isda_suite.methods.idip.randomness import RecordedNoise
from tests.golden.idip.models import feats_of, model_of, tensors

_TERMS = {'cls_loss': 'loss_cls', 'l1_loss': 'loss_bbox', 'giou_loss': 'loss_iou',
          'mask_loss': 'loss_mask'}  # fmt: skip
_STAGE = ('logits', 'boxes', 'features')


def _targets(inputs):
    parts = zip(*(tensors(inputs[f'gt_{k}']) for k in ('labels', 'boxes', 'masks')), strict=True)
    return [InstanceData(labels=a, bboxes=b, masks=c) for a, b, c in parts]


def _stage(inputs, *names):
    return Stage(*(torch.from_numpy(inputs[name]) for name in names))


def _matching(criterion, stage, targets, sizes, prefix):
    """Name the results of the matching of the first stage."""
    matches = criterion.match(stage, targets, sizes)
    matched = torch.zeros(stage.logits.shape[:2], dtype=torch.bool)
    for row, match in zip(matched, matches, strict=True):
        row[match.proposal_inds] = True
    found = {
        'valid': matched,
        'gt_ind': torch.cat([match.gt_inds for match in matches]),
        'num_matched': torch.tensor([len(match) for match in matches]),
    }
    for i, (gt, size) in enumerate(zip(targets, sizes, strict=True)):
        if len(gt):
            with torch.no_grad():
                pairs = criterion.assigner.pair_costs(stage.logits[i], stage.boxes[i], gt, size)
            names = (f'candidates{i}', f'cost{i}', f'iou{i}')
            found.update(zip(names, pairs, strict=True))
    return {f'{prefix}_{name}': value for name, value in found.items()}


def run_loss(golden, case):
    """Raw outputs and targets to costs, matching, losses and gradients."""
    head, inputs = copy.copy(model_of(case).roi_head), case.inputs()
    feats, targets = feats_of(inputs), _targets(inputs)
    sizes = [tuple(size) for size in case.config['image_sizes']]
    first = _stage(inputs, 'pred_logits', 'pred_boxes', 'proposal_feat')
    second = _stage(inputs, 'second_logits', 'second_boxes', 'second_feat')
    result = _matching(head.criterion, first, targets, sizes, case.name)
    leaves = {name: getattr(first, name).requires_grad_() for name in _STAGE}
    modes = {'eval': [first], 'train': [first], 'two': [first, second]}
    asked = {output.spec['of']['mode'] for output in case.outputs.values()
             if 'mode' in output.spec.get('of', {})}  # fmt: skip
    losses, mask_head = {}, head.mask_head
    for mode in sorted(asked):
        # The running statistics stay as they are in the model, which other cases use.
        trained = copy.deepcopy(mask_head)
        head._modules = {**head._modules, 'mask_head': trained.train(mode == 'train')}
        losses[mode] = head.loss(feats, modes[mode], targets, sizes)
        if mode == 'train':
            buffers = dict(trained.named_buffers())
    grads = torch.autograd.grad(sum(losses['eval'].values()), list(leaves.values()))
    by_input = dict(zip(('pred_logits', 'pred_boxes', 'proposal_feat'), grads, strict=True))
    for name, output in case.outputs.items():
        of = output.spec.get('of', {})
        if 'loss' in of:
            result[name] = losses[of['mode']][_TERMS[of['loss']]]
        elif 'grad_of_input' in of:
            result[name] = by_input[of['grad_of_input']]
        elif 'buffer' in of:
            result[name] = buffers[of['buffer'].removeprefix('roi_head.mask_head.')]
    return result


def _recorded(inputs, num_proposals):
    """Give each image its random numbers: placeholders where there are few targets, then noise."""
    arrays, times = iter(inputs['noise']), inputs['t']
    keeps = iter([inputs['keep']] if 'keep' in inputs else [])
    noises = []
    for boxes, time in zip(inputs['gt_boxes'], times, strict=True):
        few, many = len(boxes) < num_proposals, len(boxes) > num_proposals
        normals = [next(arrays) for _ in range(2 if few else 1)]
        noises.append(RecordedNoise(normals, [time], [next(keeps)] if many else []))
    return noises


def run_train(golden, case):
    """One forward and backward pass in training mode."""
    model, inputs, c = model_of(case), case.inputs(), case.config
    statistics = copy.deepcopy(dict(model.roi_head.mask_head.named_buffers()))
    model.train(c['mask_bn'] == 'train')
    samples = [
        DetDataSample(metainfo=dict(img_shape=tuple(size)), gt_instances=gt)
        for size, gt in zip(c['image_sizes'], _targets(inputs), strict=True)
    ]
    data = model.data_preprocessor(
        dict(inputs=tensors(inputs['images']), data_samples=samples), training=True
    )
    losses = model.loss(data['inputs'], data['data_samples'], _recorded(inputs, c['num_proposals']))
    model.zero_grad()
    sum(losses.values()).backward()
    result = {name: losses[_TERMS[name]] for name in case.outputs if name in _TERMS}
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    silent = [name for name, grad in grads.items() if grad is None]
    assert silent == list(inputs['parameters_without_gradient'])
    theirs, _ = convert_state_dict(grads, invert(ORIGINAL))
    assert not set(theirs) & set(inputs['frozen_parameters'])
    norms = [theirs[name].norm() for name in inputs['grad_names']]
    result['grad_norms'] = torch.stack(norms)
    model.zero_grad()
    for name, value in model.roi_head.mask_head.named_buffers():
        value.copy_(statistics[name])
    return result
