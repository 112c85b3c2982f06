"""What the runners share: models of the files' settings, instances, gradients."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.registry import MODELS
from isda_suite.resources import resource_root

BASES = resource_root() / 'configs' / '_base_' / 'models'


def base_model(name):
    """Return a base configuration without pretrained weights."""
    init_default_scope('mmdet')
    model = Config.fromfile(BASES / f'{name}.py').model
    model.backbone.init_cfg = None
    return model


def fill(model, params, table, prefix=''):
    """Load parameters of original names; parts the file does not hold stay as they are."""
    state = {name: torch.from_numpy(value) for name, value in params.items()}
    converted, _ = convert_state_dict(state, table)
    own = {name.removeprefix(prefix): value for name, value in converted.items()}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected
    parts = {name.split('.')[0] for name in own}
    # Frozen normalisation has no counters there.
    absent = [n for n in missing if n.split('.')[0] in parts and 'num_batches_tracked' not in n]
    assert not absent
    return model


def build_model(config, c):
    """Build a detector of a base configuration with the settings every file has."""
    config.backbone.update(depth=c['depth'], style='caffe')
    config.data_preprocessor.update(
        mean=c['pixel_mean'], std=c['pixel_std'], bgr_to_rgb=c['channel_order'] != 'bgr'
    )
    return MODELS.build(config)


def tensor(value):
    return torch.from_numpy(np.ascontiguousarray(value))


def instances(masks, labels=None, boxes=None):
    """Make instances of full-size masks."""
    found = InstanceData()
    if boxes is not None:
        found.bboxes = tensor(boxes).float()
    if labels is not None:
        found.labels = tensor(labels).long()
    found.masks = BitmapMasks(masks, *masks.shape[1:])
    if boxes is None:
        found.bboxes = found.masks.get_bboxes('hbox').tensor
    return found


def samples_of(gts, size_hw):
    """Make data samples of instances, not padded."""
    size_hw = tuple(size_hw)
    meta = dict(img_shape=size_hw, ori_shape=size_hw, batch_input_shape=size_hw, pad_shape=size_hw)
    samples = []
    for i, gt in enumerate(gts):
        sample = DetDataSample(metainfo=dict(meta, img_id=i, scale_factor=(1.0, 1.0)))
        sample.gt_instances = gt
        samples.append(sample)
    return samples


def normalised(images, c):
    """Subtract the mean of raw images (B, 3, H, W), as the data preprocessor does."""
    mean, std = (torch.tensor(c[k]).view(1, 3, 1, 1) for k in ('pixel_mean', 'pixel_std'))
    return (tensor(images) - mean) / std


def gradients(case, results, leaves):
    """Add what outputs ask for by `of`: gradients of one result by one input."""
    for name, output in case.outputs.items():
        of = output.spec.get('of', {})
        if 'grad_of_input' in of:
            value, leaf = results[of['grad_of_output']], leaves[of['grad_of_input']]
            (found,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
            results[name] = torch.zeros_like(leaf) if found is None else found
    return results
