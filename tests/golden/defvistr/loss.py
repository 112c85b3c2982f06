"""Runners of golden parts: name to function(golden, case, tmp_path) -> results by name."""

import numpy as np
import torch
from mmengine.registry import DefaultScope

from isda_suite.datasets.clips import clip_records
from isda_suite.methods.defvistr.linking import ClipLinker
from isda_suite.methods.defvistr.loss import LossSettings, count_boxes, sequence_losses
from isda_suite.methods.defvistr.matching import SequenceHungarianAssigner, match_layers
from isda_suite.methods.defvistr.postprocess import clip_tracks
from isda_suite.methods.defvistr.targets import ClipTargets
from isda_suite.registry import MODELS, TRANSFORMS


def _grouped(x, config):
    """(1, outputs, ...) in the order of the original -> (1, K, T, ...)."""
    frames = config['num_frames']
    groups = config['num_outputs'] // frames
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


def _network_input(images, config):
    """(T, h, w, 3) uint8 RGB frames to the (T, 3, H, W) input of the network."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        scale = config['short_side']
        if config['long_side'] is not None:
            scale = (scale, config['long_side'])
        resize = TRANSFORMS.build(dict(type='isda_suite.ResizeShortSide', scale=scale))
        preprocessor = MODELS.build(
            dict(
                type='TrackDataPreprocessor',
                mean=[255 * value for value in config['mean']],
                std=[255 * value for value in config['std']],
                bgr_to_rgb=True,
            )
        )
    frames = [resize(dict(img=np.ascontiguousarray(image[..., ::-1])))['img'] for image in images]
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return preprocessor(dict(inputs=[clip], data_samples=None))['inputs'][0]


def _video_results(cls_logits, mask_logits, length, config):
    """Outputs (K, T, ...) of the one clip of a video to (category, score, masks) of its tracks."""
    found = clip_tracks(
        cls_logits,
        mask_logits,
        length,
        tuple(config['video_size']),
        mask_thr=config['mask_threshold'],
        null_score=config['null_score'],
        drop_class_zero=config['drop_class_zero'],
    )
    linker = ClipLinker(overlap=config['num_frames'] // 6)
    linker.push(found, range(length))
    _, tracks = linker.finish(length)
    return zip((tracks.labels + 1).tolist(), tracks.scores.tolist(), tracks.masks, strict=True)


def run_post(golden, case, tmp_path):
    """Frames to network input, and raw outputs to the results file."""
    config, inputs = case.config, case.inputs()
    results = {name: [] for name in case.outputs}
    for n, length in enumerate(config['video_lengths']):
        video = dict(
            video_id=inputs['videos'][n]['id'], video_length=length, images=list(range(length))
        )
        (record,) = clip_records(video, config['num_frames'], overlap=0)
        results['clip_frames'].append(record['clip_frames'])
        images = inputs[f'video{n}_frames'][record['clip_frames']]
        results['net_input'].append(_network_input(images, config).numpy())
        results['net_input_shape'].append(results['net_input'][-1].shape)
        logits, masks = (
            _grouped(torch.as_tensor(inputs[f'video{n}_{kind}']), config)[0]
            for kind in ('logits', 'masks')
        )
        for category, score, codes in _video_results(logits, masks, length, config):
            results['result_video_id'].append(record['video_id'])
            results['result_category_id'].append(category)
            results['result_score'].append(score)
            results['result_segmentations'].append(codes)
    return results


RUNNERS = {
    'loss': run_loss,
    'vistr_loss': run_loss,
    'post': run_post,
    'vistr_post': run_post,
}
