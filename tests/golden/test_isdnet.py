"""ISDNet against numbers recorded from the original implementation.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from mmseg.models.backbones.stdc import STDCModule

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.datasets.label_file import LabelRule, class_ids
from isda_suite.methods.isdnet.convert import ORIGINAL, STDC_SEG
from isda_suite.methods.isdnet.loss import ReconstructionLoss, StructureDistillationLoss
from isda_suite.methods.isdnet.pyramid import LaplacianPyramid
from isda_suite.metrics import IoUMetric
from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.methods.isdnet.build import build_isdnet, samples_of

# Names in the original's log and in ours.
LOSSES = {
    'decode.loss_seg': 'decode.loss_ce',
    'refine.loss_seg': 'refine.loss_ce',
    'aux_1.loss_seg': 'context8.loss_ce',
    'aux_2.loss_seg': 'context16.loss_ce',
    'aux_3.recon_losses': 'sr.loss_recon',
    'aux_4.fa_loss': 'sr.loss_distill',
    'aux.loss_seg': 'aux.loss_ce',
    'decode.acc_seg': 'decode.acc_seg',
    'refine.acc_seg': 'refine.acc_seg',
    'aux_1.acc_seg': 'context8.acc_seg',
    'aux_2.acc_seg': 'context16.acc_seg',
    'aux.acc_seg': 'aux.acc_seg',
}


def _tensors(inputs):
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}


def _stages_of_the_network(model, img):
    """Compute every stage once, by the calls of the segmentor."""
    found = model.encode(img)
    head = model.refine_head
    parts, rest = model.pyramid(img)
    raf16 = head.fuse16(found.shallow[1], found.deep_feat)
    raf8 = head.fuse8(found.shallow[0], raf16[2])
    result = {f'backbone_c{i + 1}': stage for i, stage in enumerate(found.stages)}
    result |= {f'pyramid_h{i}': part for i, part in enumerate(parts)}
    result |= {f'raf16_{k}': v for k, v in zip(('s', 'c', 'out'), raf16, strict=True)}
    result |= {f'raf8_{k}': v for k, v in zip(('s', 'c', 'out'), raf8, strict=True)}
    return result | {
        'deep_input': model.deep_input(img, rest),
        'deep_feat': found.deep_feat,
        'deep_logits': model.decode_head.cls_seg(found.deep_feat),
        'aux_logits': model.auxiliary_head(found.stages),
        'shallow_input': found.residuals,
        'shallow_8': found.shallow[0],
        'shallow_16': found.shallow[1],
        'head_logits': model.class_logits(img),
        'logits': model(img),
    }


def _meta(config):
    return {
        'img_shape': tuple(config['img_shape']),
        'ori_shape': tuple(config.get('ori_shape', config['img_shape'])),
    }


def _predictions(model, img, meta):
    """Predict with and without logits kept."""
    result = {'pred': model.predict(img, samples_of(img[:, :1], **meta))[0].pred_sem_seg.data[0]}
    model.test_cfg.keep_logits = True
    kept = model.predict(img, samples_of(img[:, :1], **meta))[0]
    prob = kept.seg_logits.data.softmax(0)
    best = prob.topk(2, 0).values
    return result | {'prob': prob[None], 'margin': (best[0] - best[1])[None]}


def _flipped(model, img, meta):
    """Average an image and its mirror by the model for test-time augmentation."""
    from mmengine.registry import MODELS

    tta = MODELS.build(dict(type='isda_suite.ISDNetTTA', module=model))
    views = []
    for flip in (False, True):
        data = img.flip(-1) if flip else img
        sample = samples_of(
            data[:, :1], **meta, flip=flip, flip_direction='horizontal', img_path='golden'
        )
        views.append(model.predict(data, sample))
    merged = tta.merge_preds([[view[0] for view in views]])
    return merged[0].pred_sem_seg.data[0]


def _protocol(model, case):
    """Send a picture through the transforms and the data preprocessor."""
    config, picture = case.config, case.inputs()['picture']
    height, width = picture.shape[:2]
    ratio = config['scale_ratio']
    scale = (int(width * ratio), int(height * ratio))
    pipeline = Compose(
        [dict(type='Resize', scale=scale, keep_ratio=True), dict(type='isda_suite.PackSegInputs')]
    )
    packed = pipeline(
        {'img': picture, 'img_shape': picture.shape[:2], 'ori_shape': picture.shape[:2]}
    )
    batch = model.data_preprocessor(
        {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
    )
    meta = packed['data_samples'].metainfo
    found = _predictions(model, batch['inputs'], meta)
    return found | {'image': picture, 'tensor': batch['inputs']}


@torch.no_grad()
def run_model(golden, case):
    """Image to every stage, class map and its average with the mirror."""
    init_default_scope('mmseg')
    model = build_isdnet(case.config, case.params())
    wanted = {name.split('.')[-1] for name in case.outputs}
    if 'scale_ratio' in case.config:
        result = _protocol(model, case)
    else:
        img = _tensors(case.inputs())['img']
        if 'flips' in case.config:
            result = {'pred_flip': _flipped(model, img, _meta(case.config))}
        else:
            result = _stages_of_the_network(model, img)
            if 'pred' in wanted:
                result |= _predictions(model, img, _meta(case.config))
    return {name: result[name.split('.')[-1]] for name in case.outputs}


def run_losses(golden, case):
    """Images and labels to losses, gradients and running statistics; or one loss alone."""
    alone = {'fa': _distillation, 'sr': _reconstruction, 'ce': _cross_entropy}.get(case.name)
    found = alone(case) if alone else _training(case)
    return {name: found(output.spec['of']) for name, output in case.outputs.items()}


def _training(case):
    inputs = _tensors(case.inputs())
    model = build_isdnet(case.config).to(getattr(torch, case.config['compute_dtype']))
    model.load_state_dict(_converted(case.params()))
    model.train(case.name.startswith('train'))
    labels = inputs['gt'].reshape(len(inputs['img']), 1, *inputs['gt'].shape[-2:])
    losses = model.loss(inputs['img'], samples_of(labels))
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    values = {name: losses[ours] for name, ours in LOSSES.items()} | {'total': total}
    values |= {
        name: _over_all(values[name], labels, case.config['ignore_index'])
        for name in values
        if 'acc' in name
    }
    trained, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def find(of):
        if 'loss' in of:
            return values[of['loss']]
        if 'buffer' in of:
            return buffers[_our_name(of['buffer'])]
        grad = trained[_our_name(of['grad_of_param'])].grad
        return torch.zeros(()) if grad is None else grad

    return find


def _over_all(accuracy, labels, ignore_index):
    """Count ignored pixels as wrong, as the original's log does; ours leaves them out."""
    return accuracy * (labels != ignore_index).double().mean()


def _converted(params, table=ORIGINAL):
    return convert_state_dict({k: torch.from_numpy(v) for k, v in params.items()}, table)[0]


def _our_name(name):
    return next(iter(_converted({name: np.zeros(1)})))


def _distillation(case):
    inputs = _tensors(case.inputs())
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    loss = StructureDistillationLoss()(leaves['seg'], leaves['sr'])
    loss.backward()
    assert (leaves['sr'].grad is not None) == case.config['grad_to_second']
    return lambda of: loss if 'loss' in of else leaves[of['grad_of_input']].grad


def _reconstruction(case):
    inputs = _tensors(case.inputs())
    loss = ReconstructionLoss(case.config['loss_recon_weight'])(inputs['pred'], inputs['target'])
    return lambda of: loss


def _cross_entropy(case):
    inputs = _tensors(case.inputs())
    head = build_isdnet(case.config).refine_head
    labels = inputs['gt'].reshape(len(inputs['logit']), 1, *inputs['gt'].shape[-2:])
    losses = head.loss_by_feat(inputs['logit'], samples_of(labels))
    values = {
        'loss_seg': losses['loss_ce'],
        'acc_seg': _over_all(losses['acc_seg'], labels, case.config['ignore_index']),
    }
    return lambda of: values[of['loss']]


@torch.no_grad()
def run_modules(golden, case):
    """Run one module alone."""
    inputs = _tensors(case.inputs())
    prefix, params = case.name, case.params()
    if prefix.startswith('lap'):
        residuals, _ = LaplacianPyramid(case.config['pyramid_levels'])(inputs['img'])
        return {f'{prefix}.h{i}': residual for i, residual in enumerate(residuals)}
    if prefix == 'blk':
        return _blocks(case, inputs['feat'])
    model = build_isdnet(case.config, params if prefix == 'r50' else None)
    if prefix == 'r50':
        return {'r50.logits': model(inputs['img'])}
    if prefix == 'stdc':
        model.shallow_branch.load_state_dict(_converted(params, STDC_SEG))
        f8, f16 = model.shallow_branch(inputs['img'])
        stem = model.shallow_branch.stages[0].conv.weight
        return {'stdc.stem': stem, 'stdc.f8': f8, 'stdc.f16': f16}
    ours = _converted(params)
    name = '.'.join(next(iter(ours)).split('.')[:2])
    module = model.get_submodule(name)
    module.load_state_dict({k.removeprefix(f'{name}.'): v for k, v in ours.items()})
    found = module(*inputs.values())
    keys = ('s', 'c', 'out') if prefix.startswith('raf') else ('feats', 'out')
    return {f'{prefix}.{key}': value for key, value in zip(keys, found, strict=True)}


def _blocks(case, feature):
    """Run STDC blocks alone; they have the names of the blocks of the third stage."""
    result = {}
    for spec in case.config['blocks']:
        block = STDCModule(
            spec['in_channels'], spec['out_channels'], spec['stride'], dict(type='BN'),
            dict(type='ReLU'), spec['num_convs'], 'cat',
        ).eval()  # fmt: skip
        place = 'refine_head.stdc_net.features.2.'
        params = {k: v for k, v in case.params().items() if k.startswith(spec['prefix'])}
        state = _converted({k.replace(spec['prefix'], place, 1): v for k, v in params.items()})
        start = 'shallow_branch.stages.2.0.'
        block.load_state_dict({k.removeprefix(start): v for k, v in state.items()})
        feature = block(feature)
        result[f'blk.stride{spec["stride"]}'] = feature
    return result


def run_eval(golden, case):
    """Class maps to the metric that configs name, and colours to classes."""
    inputs = case.inputs()
    if 'mask' in inputs:
        colours = tuple(map(tuple, case.config['palette_rgb']))
        rule = LabelRule(
            num_classes=len(colours), colours=colours, unknown_id=case.config['unknown_id']
        )
        return dict.fromkeys(case.outputs, class_ids(inputs['mask'], 'mask', rule)[0])
    classes = [str(i) for i in range(case.config['num_classes'])]
    metric = IoUMetric(
        iou_metrics=['mIoU', 'mFscore'], ignore_index=case.config['ignore_index'], left_out='0'
    )
    metric.dataset_meta = {'classes': classes}
    for pred, gt in zip(inputs['preds'], inputs['gts'], strict=True):
        pred, gt = (torch.from_numpy(x).long() for x in (pred, gt))
        metric.process({}, [{'pred_sem_seg': {'data': pred}, 'gt_sem_seg': {'data': gt}}])
    values = metric.measures(metric.results)
    summary = metric.compute_metrics(metric.results)
    values |= {'mIoU_all': values['IoU'].mean(), 'mIoU_without_0': values['IoU'][1:].mean()}
    # What is printed is the same, rounded to hundredths of a per cent.
    assert summary['mIoU'] == np.round(100 * values['mIoU_all'], 2)
    assert summary['mIoU_wo_0'] == np.round(100 * values['mIoU_without_0'], 2)
    return {name: values[output.spec['of']['metric']] for name, output in case.outputs.items()}


RUNNERS = {'model': run_model, 'losses': run_losses, 'modules': run_modules, 'eval': run_eval}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('isdnet_*.json'))
def test_part_equals_the_original(golden, case):
    """Every stored output of every case is within the file's tolerance."""
    result = RUNNERS[golden.std['part']](golden, case)
    for name, output in case.outputs.items():
        check(result[name], output)
