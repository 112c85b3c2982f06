"""ISDA against numbers recorded from the original implementation.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from isda_suite.metrics import CocoMetric
from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.methods.isda.build import build_head, build_isda, samples_of


def _tensors(inputs):
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}


def _heads(model, mask_feature, head_inputs):
    cls_scores, kernels, _ = model.bbox_head(**head_inputs, mask_feature=mask_feature)
    return {
        'hs': head_inputs['hidden_states'],
        'inter_references': torch.stack(list(head_inputs['references'][1:])),
        'all_cls_scores': cls_scores,
        'all_kernel_preds': kernels,
        'mask_feature': mask_feature,
    }


def _transformer(model, feats, samples):
    """Run the transformer step by step, so that the encoder's memory can be compared too."""
    encoder_inputs, decoder_inputs = model.pre_transformer(
        feats[-model.num_feature_levels :], samples
    )
    memory = model.forward_encoder(**encoder_inputs)
    head_inputs = model.forward_transformer(feats, samples)
    return memory['memory'], head_inputs, encoder_inputs, decoder_inputs


@torch.no_grad()
def run_forward(golden, case):
    """Image to raw outputs."""
    model = build_isda(case.config, case.params())
    samples = samples_of(case.config)
    img = _tensors(case.inputs())['img']
    stages = model.backbone(img)
    feats = model.neck(stages)
    memory, head_inputs, *_ = _transformer(model, feats, samples)
    result = _heads(model, head_inputs.pop('mask_feature'), head_inputs)
    result.update({f'c{i + 2}': x for i, x in enumerate(stages)})
    result.update({f'p{i + 2}': x for i, x in enumerate(feats)})
    return result | {'memory': memory}


@torch.no_grad()
def run_head(golden, case):
    """Neck features to raw outputs, with padding masks and position embeddings."""
    model = build_isda(case.config, case.params())
    samples = samples_of(case.config)
    feats = [torch.from_numpy(x) for x in case.inputs()['feats']]
    memory, head_inputs, encoder_inputs, _ = _transformer(model, feats, samples)
    result = _heads(model, head_inputs.pop('mask_feature'), head_inputs)
    start = 0
    for level, feat in enumerate(feats[-model.num_feature_levels :]):
        b, c, h, w = feat.shape
        part = slice(start, start + h * w)
        start += h * w
        pos = encoder_inputs['feat_pos'][:, part] - model.level_embed[level]
        result[f'pos_embed{level}'] = pos.mT.reshape(b, c, h, w)
        result[f'padding_mask{level}'] = encoder_inputs['feat_mask'][:, part].reshape(b, h, w)
    return result | {'memory': memory}


def run_loss(golden, case):
    """Raw outputs and targets to costs, matching, loss terms and gradients."""
    head = build_head(case.config)
    inputs = _tensors(case.inputs())
    names = ('all_cls_scores', 'all_kernel_preds', 'mask_feature')
    cls_scores, kernels, mask_feature = leaves = [inputs[k].requires_grad_() for k in names]
    gts = [
        InstanceData(labels=torch.as_tensor(labels), masks=masks.astype(np.uint8))
        for labels, masks in zip(inputs['gt_labels'], inputs['gt_masks'], strict=True)
    ]
    losses = head.loss_by_feat(cls_scores, kernels, mask_feature, gts)
    torch.stack(list(losses.values())).sum().backward()
    targets = [head.targets_of(gt, mask_feature) for gt in gts]
    assigned = torch.zeros(cls_scores.shape[:3], dtype=torch.long)
    for layer, (scores, kernel) in enumerate(zip(cls_scores, kernels, strict=True)):
        for image, match in enumerate(head.match(scores, kernel, mask_feature, targets)):
            assigned[layer, image, match.query_inds] = match.gt_inds + 1
    result = {'assigned_gt_inds': assigned}
    for name, output in case.outputs.items():
        of = output.spec.get('of', {})
        if 'cost' in of:
            result[name] = _cost(head, of, cls_scores, kernels, mask_feature, targets)
        elif 'grad_of_input' in of:
            result[name] = leaves[names.index(of['grad_of_input'])].grad
        elif name.startswith('gt_mask_targets'):
            result[name] = targets[int(name.removeprefix('gt_mask_targets'))].masks
        elif name.startswith('loss_values'):
            result[name] = losses
    return result


@torch.no_grad()
def _cost(head, of, cls_scores, kernels, mask_feature, targets):
    from isda_suite.layers.dynamic_masks import decode_mask_logits

    layer, image = of['layer'], of['image']
    masks = decode_mask_logits(kernels[layer, image], mask_feature[image]).sigmoid()
    pred = InstanceData(scores=cls_scores[layer, image], masks=masks)
    cost = head.assigner.match_costs[{'cls': 0, 'mask': 1}[of['cost']]]
    return cost(pred, targets[image])


def _detect(head, cls_scores, kernels, mask_feature, config):
    from isda_suite.methods.isda.postprocess import detect

    return detect(
        cls_scores, kernels, mask_feature,
        tuple(config['img_shapes'][0]), tuple(config['ori_shapes'][0]), **head.test_cfg,
    )  # fmt: skip


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections."""
    head = build_head(case.config)
    inputs = _tensors(case.inputs())
    cls_scores, kernels = inputs['all_cls_scores'][-1, 0], inputs['all_kernel_preds'][-1, 0]
    found = _detect(head, cls_scores, kernels, inputs['mask_feature'][0], case.config)
    result = {'labels': found.labels, 'scores': found.scores, 'head2_scores': found.scores}
    for name in case.outputs:
        if name.startswith('mask'):
            result[name] = found.masks
    return result


@torch.no_grad()
def run_detect(golden, case):
    """Image to detections."""
    model = build_isda(case.config, case.params())
    feats = model.extract_feat(_tensors(case.inputs())['img'])
    head_inputs = model.forward_transformer(feats, samples_of(case.config))
    cls_scores, kernels, mask_feature = model.bbox_head(**head_inputs)
    found = _detect(
        model.bbox_head, cls_scores[-1, 0], kernels[-1, 0], mask_feature[0], case.config
    )
    counts = torch.bincount(found.labels, minlength=case.config['num_classes'])
    return {
        'labels': found.labels, 'scores': found.scores, 'query': found.query_inds,
        'class_scores': found.class_scores, 'mask_area': found.masks, 'masks': found.masks,
        'per_class_count': counts,
    }  # fmt: skip


def run_eval(golden, case, tmp_path):
    """Ground truth and detections to COCO metrics, through the metric that configs name."""
    inputs = case.inputs()
    ann_file = tmp_path / 'gt.json'
    ann_file.write_text(json.dumps(inputs['coco']))
    metric = CocoMetric(
        str(ann_file), metric=case.config['metric'], max_dets=case.config['max_dets']
    )
    metric.dataset_meta = {'classes': [c['name'] for c in inputs['coco']['categories']]}
    for image, found in zip(inputs['coco']['images'], inputs['detections'], strict=True):
        masks = [coco_mask.decode(d['segmentation']) for d in found]
        pred = {
            'scores': torch.tensor([d['score'] for d in found]),
            'labels': torch.tensor([d['label'] for d in found]),
            'masks': torch.from_numpy(np.stack(masks)).bool(),
        }
        metric.process({}, [{'img_id': image['id'], 'pred_instances': pred}])
    values = metric.compute_metrics(metric.results)
    # pycocotools writes -1 where there is no object to find; our metric says nan.
    values = {name: -1.0 if math.isnan(v) else v for name, v in values.items()}
    return dict.fromkeys(case.outputs, values)


RUNNERS = {
    'eval': run_eval,
    'forward': run_forward,
    'head': run_head,
    'loss': run_loss,
    'post': run_post,
    'detect': run_detect,
}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('isda_*.json'))
def test_part_equals_the_original(golden, case, tmp_path):
    """Every stored output of every case is within the file's tolerance."""
    runner = RUNNERS[golden.std['part']]
    result = runner(golden, case, tmp_path) if runner is run_eval else runner(golden, case)
    for name, output in case.outputs.items():
        check(result[name], output)
