"""CondInst: dynamic head, loss variants, heads, detections, whole model."""

import torch
from mmengine import ConfigDict
from mmengine.structures import InstanceData

from isda_suite.layers.query_adapter import QueryRecord
from isda_suite.losses import GIoUInStridesLoss
from isda_suite.methods.iuq.adapters import CondInstAdapter
from isda_suite.methods.iuq.convert import ADELAIDET_CONDINST
from isda_suite.methods.iuq.released_condinst import partner_logits
from isda_suite.methods.iuq.uniqueness import UniquenessLoss
from isda_suite.registry import MODELS
from tests.golden.iuq.parts import (
    base_model,
    build_model,
    fill,
    gradients,
    instances,
    normalised,
    samples_of,
    tensor,
)


def _config(c):
    model = base_model('condinst_r50')
    model.bbox_head.update(num_classes=c.get('num_classes', 80))
    if 'strides' in c:
        model.bbox_head.strides = c['strides']
    if 'mask_out_stride' in c:
        model.mask_head.mask_out_stride = c['mask_out_stride']
    if 'dice_eps' in c:  # the original adds it once to the sum, mmdet to both of its parts
        model.mask_head.loss_mask.eps = c['dice_eps'] / 2
    model.mask_head.max_masks_to_train = -1
    return model


def _size_of_interest(c):
    return c['sizes_of_interest'][0] // c['mask_feat_stride']


def _mask_head(c):
    head = _config(c).mask_head
    head.size_of_interest = _size_of_interest(c)
    return MODELS.build(head)


def _uniqueness(c):
    return UniquenessLoss(
        mode=c['uniqueness'], keep_from=c.get('keep_from'), keep_up_to=c.get('keep_up_to'),
        loss_weight=c['unique_weight'], temperature=c['mask_temperature'],
    )  # fmt: skip


def _set(tag, c, inputs, leaves):
    """Make the records of one of the two sets, and where their queries stand in the file."""
    images = tensor(inputs[f'image_inds_{tag}'])
    sizes = torch.tensor(c['sizes_of_interest'])[tensor(inputs[f'fpn_levels_{tag}'])]
    counts = [int(n) for n in inputs[f'gt_per_image_{tag}']]
    masks, start = inputs[f'gt_masks_{tag}'], 0
    records, order = [], []
    for image, count in enumerate(counts):
        rows = (images == image).nonzero().squeeze(1)
        own = instances(masks[start : start + count])
        own.labels = torch.zeros(count, dtype=torch.long)
        info = InstanceData(
            param_preds=leaves[f'params_{tag}'][rows],
            points=tensor(inputs[f'locations_{tag}'])[rows],
            strides=sizes[rows].float() / _size_of_interest(c),
            pos_assigned_gt_inds=tensor(inputs[f'gt_inds_{tag}'])[rows] - start,
        )
        context = dict(info=info, gt_instances=own, meta={})
        records.append(
            QueryRecord(
                info.param_preds, info.pos_assigned_gt_inds, leaves[f'mask_feats_{tag}'][image],
                context,
            )
        )  # fmt: skip
        order.append(rows)
        start += count
    return records, torch.cat(order)


def run_loss(golden, case):
    """Filters, features and locations of two sets to logits and losses."""
    c, inputs = case.config, case.inputs()
    adapter = CondInstAdapter(_mask_head(c))
    leaves = {
        k: tensor(v).requires_grad_() for k, v in inputs.items() if k[:6] in ('params', 'mask_f')
    }
    results, sets, orders = {}, {}, {}
    for tag, name in (('a', 'loss_mask'), ('b', 'contrast_loss_mask')):
        sets[tag], order = _set(tag, c, inputs, leaves)
        logits = [adapter.respond_map(record, record.pixels) for record in sets[tag]]
        results[name] = adapter.mask_loss(sets[tag], [x / c['mask_temperature'] for x in logits])
        orders[tag] = order.argsort()
        in_order = torch.cat(logits)[orders[tag]]
        results[f'logits_own_{tag}_stride{c["mask_out_stride"]}'] = in_order
    permutations = iter([orders['a'], orders['b']])
    crossed = partner_logits(
        adapter, sets['a'], sets['b'], order=lambda count: next(permutations)[:count]
    )
    stride = f'stride{c["mask_out_stride"]}'
    results[f'logits_a_on_b_{stride}'] = crossed
    results[f'eval_scores_{stride}'] = (
        results[f'logits_own_a_{stride}'] / c['mask_temperature']
    ).sigmoid()
    results['contrast_loss_mask_max'] = _uniqueness(c)(crossed)
    if 'gradient_reaches' in c:
        value = results['contrast_loss_mask_max']
        found = torch.autograd.grad(
            value, list(leaves.values()), retain_graph=True, allow_unused=True
        )
        reached = [k for k, g in zip(leaves, found, strict=True) if g is not None]
        assert reached == c['gradient_reaches']
    return gradients(case, results, leaves)


def _raw(model, features, results):
    logits, boxes, centerness, params = model.bbox_head(features)
    results['mask_feat'] = model.mask_head.mask_feature_head(features)
    for i, level in enumerate(zip(logits, boxes, centerness, params, strict=True)):
        stride = model.bbox_head.strides[i]
        logit, box, center, param = level
        # mmdet gives distances in pixels when it does not train.
        results.update({f'cls_{i}': logit, f'reg_{i}': box / stride, f'ctr_{i}': center,
                        f'params_{i}': param})  # fmt: skip
    return results


@torch.no_grad()
def run_heads(golden, case):
    """Pyramid to raw outputs."""
    config = _config(case.config)
    model = fill(MODELS.build(config), case.params(), ADELAIDET_CONDINST).eval()
    inputs = case.inputs()
    return _raw(model, tuple(tensor(inputs[f'p{i}']) for i in range(3, 8)), {})


def run_model(golden, case):
    """Images to raw outputs, or the losses of a step of two images."""
    c, inputs = case.config, case.inputs()
    model = fill(build_model(_config(c), c), case.params(), ADELAIDET_CONDINST)
    images = normalised(inputs['images'], c)
    if not c['training']:
        with torch.no_grad():
            return _raw(model.eval(), model.extract_feat(images), {})
    model.train()
    model.bbox_head.loss_bbox = GIoUInStridesLoss()
    gts = [
        instances(*parts)
        for parts in zip(inputs['gt_masks'], inputs['gt_labels'], inputs['gt_boxes'], strict=True)
    ]
    samples = samples_of(gts, c['image_size'])
    adapter = CondInstAdapter(model.mask_head)
    temperature = c['mask_temperature']
    fcos, records = [], []
    with torch.no_grad():
        features = model.extract_feat(images)
        for i, sample in enumerate(samples):
            level = tuple(x[i : i + 1] for x in features)
            # The original runs the halves one after the other, each with its own statistics.
            mask_feature = model.mask_head.mask_feature_head(level)[0]
            fcos.append(model.bbox_head.loss(level, [sample]))
            (info,) = model.bbox_head.get_positive_infos()
            context = dict(info=info, gt_instances=gts[i], meta=sample.metainfo)
            records.append(
                QueryRecord(info.param_preds, info.pos_assigned_gt_inds, mask_feature, context)
            )
        ours, others = ([records[i] for i in c[f'images_{tag}']] for tag in 'ab')
        count = min(sum(len(r.queries) for r in half) for half in (ours, others))
        results = {
            f'train.loss_fcos_{theirs}': (fcos[0][name] + fcos[1][name]) / 2
            for theirs, name in (
                ('cls', 'loss_cls'), ('loc', 'loss_bbox'), ('ctr', 'loss_centerness')
            )
        }  # fmt: skip
        for name, half in (('loss_mask', ours), ('contrast_loss_mask', others)):
            first = [_first(record, count) for record in half]
            logits = [adapter.respond_map(r, r.pixels) / temperature for r in first]
            results[f'train.{name}'] = adapter.mask_loss(first, logits)
        crossed = partner_logits(adapter, ours, others, c['max_proposals'], order=torch.arange)
        results['train.contrast_loss_mask_max'] = _uniqueness(c)(crossed)
    return results


def _first(record, count):
    """Keep the first positives of a record."""
    info = record.context['info'][torch.arange(min(count, len(record.queries)))]
    context = {**record.context, 'info': info}
    return QueryRecord(info.param_preds, info.pos_assigned_gt_inds, record.pixels, context)


@torch.no_grad()
def run_post(golden, case):
    """Raw outputs to detections."""
    c, inputs = case.config, case.inputs()
    config = _config(c)
    config.bbox_head.type = 'isda_suite.AdelaiDetCondInstBboxHead'
    config.test_cfg.update(
        score_thr=c['score_thr'], nms_pre=c['pre_nms'], max_per_img=c['post_nms'],
        nms=dict(type='nms', iou_threshold=c['nms_iou']), mask_thr=c['mask_thr'],
    )  # fmt: skip
    model = MODELS.build(ConfigDict(config)).eval()
    height, width = c['content_size']
    meta = dict(
        img_shape=(height, width), ori_shape=tuple(c['output_size']),
        batch_input_shape=tuple(c['padded_size']),
        scale_factor=(width / c['output_size'][1], height / c['output_size'][0]),
    )  # fmt: skip
    levels = range(len(c['strides']))

    def maps(name):
        return [tensor(inputs[f'{name}_{i}']) for i in levels]

    distances = [x * c['strides'][i] for i, x in enumerate(maps('distances'))]
    found = model.bbox_head.predict_by_feat(
        maps('logits'), distances, maps('centerness'), maps('params'), [meta]
    )
    head, info = model.mask_head, found[0]
    # A temperature divides the logits; dividing the last layer does the same.
    sizes = [*head.weight_nums, *head.bias_nums]
    parts = list(torch.split(info.param_preds, sizes, dim=1))
    for layer in (head.num_layers - 1, 2 * head.num_layers - 1):
        parts[layer] = parts[layer] / c['mask_temperature']
    info.param_preds = torch.cat(parts, dim=1)
    (masks,) = head.forward_single(tensor(inputs['mask_feat'])[0], info)
    results = {'mask_scores_first8': masks.sigmoid()}
    (info,) = head.predict_by_feat([masks], found, [meta])
    strides = torch.tensor(c['strides'])
    results.update(
        scores=info.scores, labels=info.labels, masks=info.masks, boxes=info.bboxes,
        area=info.masks.flatten(1).sum(1), locations=info.points,
        levels=(info.strides[:, None].long() == strides).long().argmax(1),
    )  # fmt: skip
    return results


RUNNERS = {
    'condinst_heads': run_heads,
    'condinst_model': run_model,
    'condinst_post': run_post,
    'condinst_loss_memorybank2': run_loss,
    'condinst_loss_test': run_loss,
    'condinst_loss_max_variants': run_loss,
}
