"""Mask2Former: own and cross-image outputs of the stages, two training steps."""

from unittest import mock

import torch

from isda_suite.layers.query_adapter import Taps
from isda_suite.methods.iuq.adapters import Mask2FormerAdapter
from isda_suite.methods.iuq.convert import MMDET2_MASK2FORMER
from isda_suite.methods.iuq.released_mask2former import Retrieval, other_stages
from isda_suite.methods.iuq.step import Step
from isda_suite.registry import MODELS
from tests.golden.iuq.parts import base_model, fill, instances, samples_of, tensor


def _head(c, params):
    model = base_model('mask2former_r50')
    head = model.panoptic_head
    for name in (
        'in_channels', 'strides', 'feat_channels', 'out_channels', 'num_things_classes',
        'num_stuff_classes', 'num_queries', 'num_transformer_feat_level',
    ):  # fmt: skip
        head[name] = c[name]
    encoder, decoder = head.pixel_decoder.encoder, head.transformer_decoder
    encoder.num_layers, decoder.num_layers = c['encoder_layers'], c['decoder_layers']
    encoder.layer_cfg.ffn_cfg.feedforward_channels = c['encoder_feedforward']
    decoder.layer_cfg.ffn_cfg.feedforward_channels = c['decoder_feedforward']
    encoder.layer_cfg.self_attn_cfg.update(
        num_levels=c['num_levels'], num_points=c['num_points_deformable'], num_heads=c['num_heads']
    )
    head.loss_cls.update(loss_weight=c['loss_cls_weight'], class_weight=c['class_weight'])
    head.loss_mask.loss_weight = c['loss_mask_weight']
    head.loss_dice.update(loss_weight=c['loss_dice_weight'], eps=c['dice_eps'])
    costs = model.train_cfg.assigner.match_costs
    for cost, key in zip(costs, ('cost_cls', 'cost_mask', 'cost_dice'), strict=True):
        cost.weight = c[key]
    model.train_cfg.update(
        num_points=c['num_points'], oversample_ratio=c['oversample_ratio'],
        importance_sample_ratio=c['importance_sample_ratio'],
    )  # fmt: skip
    head.update(train_cfg=model.train_cfg, test_cfg=model.test_cfg)
    return fill(MODELS.build(head), params, MMDET2_MASK2FORMER, 'panoptic_head.').train()


def _features(inputs, prefix=''):
    return [tensor(inputs[f'{prefix}c{stride}']) for stride in (4, 8, 16, 32)]


@torch.no_grad()
def run_forward(golden, case):
    """Features of current and other images to outputs after every stage."""
    head, inputs = _head(case.config, case.params()), case.inputs()
    current, other = _features(inputs, 'current_'), _features(inputs, 'other_')
    with Taps() as taps:
        layers = [taps.outputs_of(layer) for layer in head.transformer_decoder.layers]
        logits, masks = head(current, [])
    first = head.query_feat.weight.expand(len(current[0]), -1, -1)
    crossed = other_stages(head, [first, *(one[0] for one in layers)], other)
    results = {}
    for name, stages in (
        ('cls', logits), ('mask', masks), ('cls_other', crossed[0]), ('mask_other', crossed[1])
    ):  # fmt: skip
        results.update({f'{name}_{i}': stage for i, stage in enumerate(stages)})
    return results


def run_losses(golden, case):
    """Two training steps with the file's random points, through the released term."""
    c, inputs = case.config, case.inputs()
    head = _head(c, case.params())
    adapter = Mask2FormerAdapter(head)
    term = Retrieval(
        {}, last_weight=c['contrast_weight_last_stage'],
        stage_weight=c['contrast_weight_stage'][0],
    )  # fmt: skip
    numbers = iter([tensor(one) for one in inputs['random']])
    results, held = {}, []
    assigned = torch.zeros(
        c['steps'], 2, c['decoder_layers'] + 1, 2, c['num_queries'], dtype=torch.long
    )
    for number in range(c['steps']):
        features = _features(inputs['features'][number])
        gts = [
            instances(masks, labels)
            for masks, labels in zip(
                inputs['gt_masks'][number], inputs['gt_labels'][number], strict=True
            )
        ]
        samples = samples_of(gts, c['image_size'])
        with (
            Taps() as taps,
            mock.patch.object(torch, 'rand', lambda *_, **__: next(numbers)),
            torch.no_grad(),
        ):
            matched = taps.calls_of(head, '_get_targets_single')
            with adapter.record(head, samples) as records:
                losses = head.loss(features, samples)
            step = Step(head, adapter, features[0], samples, records, losses, number)
            losses = {**losses, **term(step)}
        results.update({f'step{number}.{name}': value for name, value in losses.items()})
        held.append(int(term.features is not None))
        places = assigned[number].flatten(0, 2)
        for row, call in zip(places, matched, strict=True):
            row[call.result[4]] = call.result[6].pos_assigned_gt_inds + 1
    assert next(numbers, None) is None
    results['assigned'] = assigned
    results['memory_length_after'] = torch.tensor(held)
    return results


RUNNERS = {'mask2former_forward': run_forward, 'mask2former_losses': run_losses}
