"""Runners of golden parts: name to function(golden, case, tmp_path) -> results by name."""

import torch

from isda_suite.methods.defvistr.loss import LossSettings, count_boxes, sequence_losses
from isda_suite.methods.defvistr.matching import SequenceHungarianAssigner, match_layers
from isda_suite.methods.defvistr.targets import ClipTargets


def _grouped(x, config):
    """(1, outputs, ...) in the order of the original -> (1, K, T, ...)."""
    groups, frames = config['num_groups'], config['num_frames']
    if config['output_order'] == 'instance_major':
        return x.view(1, groups, frames, *x.shape[2:])
    return x.view(1, frames, groups, *x.shape[2:]).transpose(1, 2)


def _targets(inputs, config):
    n, frames = config['num_instances'], config['num_frames']
    return ClipTargets(
        labels=torch.as_tensor(inputs['target_labels']).view(n, frames),
        boxes=torch.as_tensor(inputs['target_boxes']).view(n, frames, 4),
        valid=torch.as_tensor(inputs['target_valid']).bool().view(n, frames),
        masks=torch.as_tensor(inputs['target_masks']).view(n, frames, *config['target_size']),
    )


def _original_name(name):
    """'d0.loss_cls' -> 'loss_ce_0'."""
    layer, _, term = name.rpartition('.')
    term = term.replace('loss_cls', 'loss_ce')
    return f'{term}_{layer[1:]}' if layer else term


def _matched_outputs(match, targets, config):
    slots, instances, frames = match.pairs()
    order = (config['num_frames'], 1)
    if config['output_order'] == 'frame_major':
        order = (1, config['num_groups'])
    return slots * order[0] + frames * order[1], instances * config['num_frames'] + frames


def run_loss(golden, case, tmp_path):
    """Raw outputs and targets of all layers to costs, matching, loss terms and gradients."""
    config = case.config
    inputs = case.inputs()
    layers = [*(f'aux{i}' for i in range(config['aux_layers'])), 'main']
    leaves = {
        name: torch.as_tensor(inputs[name]).requires_grad_()
        for name in [*(f'{kind}_{tag}' for kind in ('logits', 'boxes') for tag in layers), 'masks']
    }
    logits, boxes = (
        torch.stack([_grouped(leaves[f'{kind}_{tag}'], config) for tag in layers])
        for kind in ('logits', 'boxes')
    )
    targets = [_targets(inputs, config)]
    names = ('cost_class', 'cost_bbox', 'cost_iou', 'valid_index_bug')
    assigner = SequenceHungarianAssigner(**{name: config[name] for name in names})
    settings = LossSettings(
        cls=config['weight_ce'],
        no_object=config['no_object_weight'],
        **{name: config[f'weight_{name}'] for name in ('bbox', 'giou', 'mask', 'dice')},
        **{name: config[name] for name in ('focal_alpha', 'focal_gamma')},
    )
    masks = _grouped(leaves['masks'], config)
    losses = sequence_losses(logits, boxes, masks, targets, assigner, settings)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    results = {'total': total, 'num_boxes_normaliser': count_boxes(targets, logits)}
    for name, value in losses.items():
        weight = getattr(settings, name.partition('loss_')[2], 1)
        results[_original_name(name)] = value / weight
    order = [len(layers) - 1, *range(len(layers) - 1)]
    costs = [assigner.cost(logits[i, 0], boxes[i, 0], targets[0]) for i in order]
    results[f'{case.name}_cost'] = torch.stack(costs)
    matches = match_layers(assigner, logits, boxes, targets)
    for n, i in enumerate(order):
        src, tgt = _matched_outputs(matches[i][0], targets[0], config)
        results[f'{case.name}_src{n}'], results[f'{case.name}_tgt{n}'] = src, tgt
    for name, output in case.outputs.items():
        leaf = output.spec.get('of', {}).get('grad_of_input')
        if leaf:
            results[name] = leaves[leaf].grad[0]
    return results


RUNNERS = {'loss': run_loss, 'vistr_loss': run_loss}
