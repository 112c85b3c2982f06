"""Parts without parameters: regions, box decoding, masks, resizing, suppression, rates."""

import numpy as np
import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import HorizontalBoxes, bbox2roi
from mmdet.structures.mask import PolygonMasks
from mmengine import Config
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS, init_default_scope

from isda_suite.layers.mask_pasting import paste_into_boxes
from isda_suite.methods.idip.dynamic_head import decode_boxes
from isda_suite.methods.idip.head import extract
from isda_suite.methods.idip.loss import mask_targets
from isda_suite.registry import MODELS
from tests.golden.idip.models import feats_of
from tests.methods.idip.build import CONFIG


def _config():
    init_default_scope('mmdet')
    return Config.fromfile(CONFIG)


def _extractor(c, channels=256):
    cfg = _config().model.roi_head.box_roi_extractor
    cfg.update(out_channels=channels, finest_scale=c.get('finest_scale', cfg.finest_scale))
    cfg.roi_layer.update(
        output_size=c.get('roi_size', cfg.roi_layer.output_size),
        sampling_ratio=c.get('sampling_ratio', cfg.roi_layer.sampling_ratio),
    )
    cfg.featmap_strides = c.get('strides', cfg.featmap_strides)
    return MODELS.build(cfg)


def _levels(case, inputs):
    extractor = _extractor(case.config)
    rois = bbox2roi([torch.from_numpy(inputs['boxes'])])
    found = extractor.map_roi_levels(rois, len(extractor.featmap_strides))
    return dict.fromkeys(case.outputs, found)


def _regions(case, inputs):
    feats = feats_of(inputs)
    extractor = _extractor(case.config, feats[0].shape[1])
    found = extract(extractor, feats, [torch.from_numpy(inputs['boxes'])])
    return dict.fromkeys(case.outputs, found)


def _decode(case, inputs):
    boxes, deltas = (torch.from_numpy(inputs[name]) for name in ('boxes', 'deltas'))
    return dict.fromkeys(case.outputs, decode_boxes(boxes, deltas))


def _targets(case, inputs):
    masks, boxes = (torch.from_numpy(inputs[name]) for name in ('masks', 'boxes'))
    arguments = masks, boxes, torch.arange(len(boxes)), case.config['mask_size']
    return {name: mask_targets(*arguments, soft='soft' in name) for name in case.outputs}


def _paste(case, inputs):
    probs, boxes = (torch.from_numpy(inputs[name]) for name in ('probs', 'boxes'))
    size, threshold = case.config['image_size'], case.config['mask_threshold']
    return dict.fromkeys(case.outputs, paste_into_boxes(probs, boxes, tuple(size), threshold))


def _resize(**options):
    step = next(s for s in _config().test_pipeline if s.type == 'Resize')
    return TRANSFORMS.build({**step, **options})


def _resize_table(case, inputs):
    rows = []
    for height, width, short in inputs['sizes'].tolist():
        scale = (case.config['max_size'], short)
        # The size is what counts, so the other back-end, which is faster, may compute it.
        image = np.zeros((height, width, 1), np.uint8)
        resized = _resize(scale=scale, backend='cv2')(dict(img=image))
        rows.append([height, width, short, *resized['img_shape']])
    return dict.fromkeys(case.outputs, np.array(rows))


def _resize_image(case, inputs):
    found = {}
    for name, output in case.outputs.items():
        height, width = output.spec['full_shape'][:2]
        resize = _resize(scale=(width, height), keep_ratio=False)
        found[name] = resize(dict(img=inputs['image']))['img']
    return found


def _annotations(case, inputs):
    height, width = case.config['image_size']
    x, y, w, h = np.array(inputs['bboxes_xywh'], np.float32).T
    polygons = [[np.array(part) for part in one] for one in map(_parts, inputs['polygons'])]
    results = dict(
        img=np.zeros((height, width, 3), np.uint8),
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(np.stack([x, y, x + w, y + h], 1)),
        gt_masks=PolygonMasks(polygons, height, width),
    )
    results = _resize(scale=tuple(case.config['new_size'][::-1]))(results)
    flip = next(s for s in _config().train_pipeline if s.type == 'RandomFlip')
    results = TRANSFORMS.build({**flip, 'prob': float(case.config['flip'])})(results)
    masks = results['gt_masks'].to_bitmap().masks.astype(bool)
    boxes = results['gt_bboxes'].tensor
    return {name: masks if 'masks' in name else boxes for name in case.outputs}


def _parts(polygon):
    """Return the parts of an object: a list of flat lists, also for a single flat list."""
    return polygon if isinstance(polygon[0], list) else [polygon]


def _nms(case, inputs):
    boxes, scores, labels = (torch.from_numpy(inputs[k]) for k in ('boxes', 'scores', 'labels'))
    nms = dict(type='nms', iou_threshold=case.config['iou_threshold'])
    return dict.fromkeys(case.outputs, batched_nms(boxes, scores, labels, nms)[1])


def _rates(case, inputs):
    c, cfg = case.config, _config()
    warm_up, steps = cfg.param_scheduler
    warm_up.update(start_factor=c['warmup_factor'], end=c['warmup_iters'] + 1)
    steps.update(milestones=c['milestones'], gamma=c['gamma'], end=c['max_iters'])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=c['base_lr'])
    schedulers = [
        PARAM_SCHEDULERS.build({**one, 'optimizer': optimizer}) for one in (warm_up, steps)
    ]
    rates, wanted = {}, set(inputs['iterations'].tolist())
    optimizer.step()
    for iteration in range(max(wanted) + 1):
        if iteration in wanted:
            rates[iteration] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    found = np.array([rates[i] for i in inputs['iterations'].tolist()])
    return dict.fromkeys(case.outputs, found)


_RUNNERS = {
    'level': _levels,
    'roi_': _regions,
    'decode': _decode,
    'mask_targets': _targets,
    'paste': _paste,
    'resize_table': _resize_table,
    'resize_': _resize_image,
    'annotations': _annotations,
    'nms': _nms,
    'lr': _rates,
}


def run_pieces(golden, case):
    """Run the part that the case's name starts with."""
    runner = next(run for name, run in _RUNNERS.items() if case.name.startswith(name))
    return runner(case, case.inputs())
