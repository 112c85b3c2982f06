"""Runner of the golden part `data`: clip sampling, targets, transforms."""

import json
from unittest import mock

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope

from isda_suite.datasets.clips import cyclic_window
from isda_suite.registry import DATASETS, TRANSFORMS


def run_data(golden, case, tmp_path):
    """Run one case: frame numbers, a whole sample, or a single transform."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        if 'samples' in case.config:
            return _clip_frames(case)
        if 'op' in case.config:
            return _transform(case)
        return _sample(case, tmp_path)


def _clip_frames(case):
    lengths = [video['length'] for video in case.inputs()['annotation']['videos']]
    count = case.config['num_frames']
    frames = [cyclic_window(end, lengths[video], count) for video, end in case.config['samples']]
    return {'clip_frames': np.array(frames)}


def _sample(case, tmp_path):
    """Read a clip from files and transform it as the original's validation does."""
    config, inputs = case.config, case.inputs()
    video = inputs['annotation']['videos'][config['video_index']]
    for name, image in zip(video['file_names'], inputs['frames'], strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), image[..., ::-1])
    (tmp_path / 'train.json').write_text(json.dumps(inputs['annotation']))
    dataset = DATASETS.build(
        dict(
            type='isda_suite.YouTubeVISInstanceDataset',
            data_root=str(tmp_path),
            ann_file='train.json',
            pipeline=_pipeline(config),
        )
    )
    packed = dataset[config['video_index'], config['end_frame']]
    data = packed['data_samples']
    assert data.clip_frames == cyclic_window(
        config['end_frame'], video['length'], config['num_frames']
    )
    prefix = next(iter(case.outputs)).split('_')[0]
    return {f'{prefix}_{key}': value for key, value in _targets(packed, config, case).items()}


def _pipeline(config):
    return [
        dict(type='isda_suite.SampleClip', num_frames=config['num_frames'], keep_absent=True),
        dict(
            type='TransformBroadcaster',
            share_random_params=True,
            transforms=[
                dict(type='isda_suite.LoadImage'),
                dict(type='isda_suite.LoadClipAnnotations'),
                dict(
                    type='isda_suite.ResizeShortSide',
                    scale=(config['short_side'], config['long_side']),
                ),
            ],
        ),
        dict(type='isda_suite.PackClipInputs', recompute_valid=False),
    ]


def _rows(frames, field):
    """Stack a field of all frames, instance by instance."""
    values = torch.stack([torch.as_tensor(frame.gt_instances[field]) for frame in frames], dim=1)
    return values.flatten(0, 1)


def _targets(packed, config, case):
    data = packed['data_samples']
    frames = data.video_data_samples
    height, width = data.img_shape
    valid = _rows(frames, 'valid')
    boxes = _rows(frames, 'bboxes')
    masks = np.stack([frame.gt_instances.masks.masks for frame in frames], axis=1)
    scale = torch.tensor([width, height, width, height])
    corner, far = (boxes / scale).split(2, dim=1)
    labels = _category_ids(case)[_rows(frames, 'labels')]
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ('mean', 'std'))
    image = (packed['inputs'].flip(1).float() / 255 - mean) / std
    return {
        'boxes': torch.cat([(corner + far) / 2, far - corner], dim=1),
        'labels': torch.where(valid, labels, 0),
        'valid': valid.long(),
        'area': _areas(case, data) * float(np.prod(data.scale_factor)),
        'mask_sums': masks.reshape(-1, *masks.shape[2:]),
        'size': np.array([data.img_shape, data.ori_shape]),
        'image': image.flatten(0, 1),
    }


def _category_ids(case):
    return torch.tensor(sorted(one['id'] for one in case.inputs()['annotation']['categories']))


def _areas(case, data):
    """Return the areas of the file, by instance and frame of the clip; 0 where absent."""
    tracks = case.inputs()['annotation']['annotations']
    chosen = [one for one in tracks if one['video_id'] == data.video_id and not one['iscrowd']]
    return np.array([one['areas'][frame] or 0 for one in chosen for frame in data.clip_frames])


_STEPS = {
    'hflip': dict(type='RandomFlip', prob=1.0),
    'crop': dict(type='isda_suite.RandomCropKeepingAll', crop_size=(1, 1)),
    'resize': dict(type='isda_suite.ResizeShortSide', scale=1),
}


def _transform(case):
    """Run one transform on two frames with what the original drew; take the second one."""
    config, inputs = case.config, case.inputs()
    images = [np.ascontiguousarray(image[..., ::-1]) for image in inputs['images']]
    size = images[0].shape[:2]
    results = {'img': images, 'img_shape': [size for _ in images]}
    results['gt_bboxes'] = [HorizontalBoxes(inputs['boxes'].copy()) for _ in images]
    results['gt_masks'] = [BitmapMasks(inputs['masks'].astype(np.uint8), *size) for _ in images]
    step = TRANSFORMS.build(_STEPS[config['op']])
    if config['op'] == 'resize':
        short, limit = config['short_side'], config['long_side']
        step.scale = short if limit is None else (short, limit)
    both = TRANSFORMS.build(
        dict(type='TransformBroadcaster', share_random_params=True, transforms=[step])
    )
    with _as_drawn(config):
        done = both(results)
    boxes = done['gt_bboxes'][1].tensor
    prefix = next(iter(case.outputs)).rsplit('_', 1)[0]
    return {
        f'{prefix}_size': np.array(done['img_shape'][1]),
        f'{prefix}_boxes': boxes,
        f'{prefix}_area': _area_after(config['op'], inputs['area'], boxes, done),
        f'{prefix}_mask_sums': done['gt_masks'][1].masks,
        f'{prefix}_pixels': done['img'][1][..., ::-1],
    }


def _as_drawn(config):
    """Let a random crop draw what the original drew: once, for both frames."""
    drawn = [config[key] for key in ('height', 'width', 'top', 'left') if key in config]
    return mock.patch.object(np.random, 'randint', side_effect=drawn)


def _area_after(op, area, boxes, done):
    """Return the areas, which the package does not carry: by the boxes, or by the scale."""
    if op == 'crop':
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area * float(np.prod(done['scale_factor'][1])) if op == 'resize' else area


RUNNERS = {'data': run_data}
