"""The network: head, pyramid, the whole inference, post-processing."""

import torch
from mmdet.structures import DetDataSample

from isda_suite.methods.idip.dynamic_head import sinusoids
from isda_suite.methods.idip.head import extract
from isda_suite.methods.idip.options import InferenceOptions
from isda_suite.methods.idip.postprocess import finish, select
from isda_suite.methods.idip.randomness import RecordedNoise
from tests.golden.idip.diffusion import steps_as_results
from tests.golden.idip.models import feats_of, model_of


def _prepared(model, images, sizes, out_sizes=None):
    """Normalise and pad images as the model's preprocessor does."""
    samples = [
        DetDataSample(metainfo=dict(img_shape=tuple(size), ori_shape=tuple(out)))
        for size, out in zip(sizes, out_sizes or sizes, strict=True)
    ]
    data = dict(inputs=[torch.from_numpy(image) for image in images], data_samples=samples)
    return model.data_preprocessor(data)


def _boxes(case, inputs):
    schedule = model_of(case).schedule
    signal, sizes = torch.from_numpy(inputs['signal']), inputs['image_size']
    if signal.dim() == 2:
        return dict.fromkeys(case.outputs, schedule.to_boxes(signal, tuple(sizes)))
    boxes = [schedule.to_boxes(x, tuple(size)) for x, size in zip(signal, sizes, strict=True)]
    return dict.fromkeys(case.outputs, torch.stack(boxes))


def _parts(case, inputs):
    head = model_of(case).roi_head
    boxes, times = torch.from_numpy(inputs['boxes']), torch.from_numpy(inputs['t']).flatten()
    regions = extract(head.box_roi_extractor, feats_of(inputs), list(boxes))
    pooled = regions.mean((2, 3)).view(*boxes.shape[:2], -1)
    times_encoded = [encoder(times) for encoder in head.time_heads]
    logits, deltas = head.box_head(pooled, times_encoded[0])
    return {
        'roi_feat': regions,
        'pooled': pooled,
        'stage0_feat': head.dynamic_heads[0](pooled, regions),
        'stage0_iic': head.dynamic_heads[0].instance_conv(pooled.flatten(0, 1), regions),
        'time_emb': torch.stack(times_encoded),
        'sincos': sinusoids(times, pooled.shape[-1]),
        'box_head_logits': logits,
        'box_head_delta': deltas,
    }


def _stages(case, inputs):
    model = model_of(case)
    feats = feats_of(inputs)
    if not feats:
        feats = _pyramid(model, case, inputs)
    boxes, times = torch.from_numpy(inputs['boxes']), torch.from_numpy(inputs['t']).flatten()
    stages = model.roi_head(feats, boxes, times)
    names = {'stage_logits': 'logits', 'stage_boxes': 'boxes', 'stage_feat': 'features'}
    return {
        theirs: torch.stack([getattr(stage, ours) for stage in stages])
        for theirs, ours in names.items()
    }


def _mask(case, inputs):
    head = model_of(case).roi_head
    features, boxes = (torch.from_numpy(inputs[k]) for k in ('proposal_feat', 'boxes'))
    regions = extract(head.mask_roi_extractor, feats_of(inputs), [boxes])
    return {
        'mask_logits': head.predict_masks(feats_of(inputs), [boxes], features),
        'mask_roi': regions,
        'mask_dyn': head.mask_head.instance_conv(features, regions),
    }


def _pyramid(model, case, inputs):
    data = _prepared(model, [inputs['image']], [case.config['image_size']])
    return model.extract_feat(data['inputs'])


def _features(case, inputs):
    maps = _pyramid(model_of(case), case, inputs)
    return {f'p{level}': one for level, one in enumerate(maps, start=3)}


def _inference(case, inputs):
    model, c = model_of(case), case.config
    data = _prepared(model, [inputs['image']], [c['image_size']], [c['output_size']])
    metas = [sample.metainfo for sample in data['data_samples']]
    feats = model.extract_feat(data['inputs'])
    steps = list(model.sample(feats, metas, [RecordedNoise(inputs['noise'])]))
    seen = steps_as_results(steps)
    found = model.predict(**_named(data), noises=[RecordedNoise(inputs['noise'])])
    found = found[0].pred_instances
    return {
        'step_t': seen['t'], 'step_in_boxes': seen['in'], 'step_out_boxes': seen['out_boxes'],
        'step_max_logit': seen['max_logit'], 'step_keep': seen['keep'],
        'final_logits': seen['logits'],
        'detections': dict(
            boxes=found.bboxes, scores=found.scores, labels=found.labels, masks=found.masks
        ),
    }  # fmt: skip


def _named(data):
    return dict(batch_inputs=data['inputs'], batch_data_samples=data['data_samples'])


@torch.no_grad()
def run_head(golden, case):
    """Run a part of the head."""
    runners = {'boxes': _boxes, 'parts': _parts, 'stages': _stages, 'mask': _mask}
    return runners[case.name](case, case.inputs())


@torch.no_grad()
def run_full(golden, case):
    """Run from the image on."""
    runners = {'features': _features, 'boxes': _boxes, 'stages': _stages, 'inference': _inference}
    return runners[case.name](case, case.inputs())


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections."""
    model, c, inputs = model_of(case), case.config, case.inputs()
    options = InferenceOptions.of(model.test_cfg, c['diffusion_steps'])
    size, out = tuple(c['image_size']), tuple(c['output_size'])
    logits, boxes, features = (
        torch.from_numpy(inputs[name]) for name in ('logits', 'boxes', 'proposal_feat')
    )
    chosen = select(logits, boxes, size, options)
    features = features[chosen.proposal_inds]
    arguments = feats_of(inputs), [chosen.boxes], features
    probs = model.roi_head.predict_masks(*arguments, chosen.labels).sigmoid()
    found = finish(chosen, probs, size, out, options.mask_thr)
    return {
        'nms_boxes': chosen.boxes, 'nms_feat': features,
        'mask_probs': model.roi_head.predict_masks(*arguments).sigmoid(),
        'det_boxes': found.bboxes, 'det_scores': found.scores, 'det_labels': found.labels,
        'det_mask_area': found.masks, 'det_masks_packed': found.masks,
    }  # fmt: skip
