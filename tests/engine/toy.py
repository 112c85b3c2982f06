"""A tiny instance segmenter and data for it, to run whole tools in seconds.

Configurations written by `write_config` import this module by name, so processes that run them
need the folder above `tests/` on their path (see `tests/tools/running.py`).
"""

import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import HOOKS, MODELS, TRANSFORMS
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

CLASSES = ('red', 'green')
SIZE_HW = (32, 48)


def write_coco(root, num_images=4, seed=0):
    """Write train and val with one red and one green rectangle in each image."""
    rng = np.random.default_rng(seed)
    root = Path(root)
    for part in ('train', 'val'):
        (root / part).mkdir(parents=True)
        images, annotations = [], []
        for index in range(num_images):
            image = np.full((*SIZE_HW, 3), 90, np.uint8)
            for label, colour in enumerate([(30, 30, 230), (30, 230, 30)]):
                x, y = int(rng.integers(2, 12)) + 22 * label, int(rng.integers(2, 10))
                w, h = (int(side) for side in rng.integers(6, 12, 2))
                image[y : y + h, x : x + w] = colour
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': index + 1,
                        'category_id': label + 1,
                        'bbox': [x, y, w, h],
                        'area': w * h,
                        'iscrowd': 0,
                        'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    }
                )
            cv2.imwrite(str(root / part / f'{index}.png'), image)
            images.append(
                {
                    'id': index + 1,
                    'file_name': f'{index}.png',
                    'height': SIZE_HW[0],
                    'width': SIZE_HW[1],
                }
            )
        categories = [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)]
        content = {'images': images, 'annotations': annotations, 'categories': categories}
        place = root / f'annotations/instances_{part}.json'
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(content))
    return root


_CONFIG = """
_base_ = ['{base}/default_runtime.py']
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite', 'tests.engine.toy'], allow_failed_imports=False)
model = dict(
    type='ToySegmenter', num_classes=2, data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[90.0] * 3, std=[60.0] * 3, pad_mask=True))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=False),
    dataset=dict(
        type='isda_suite.CocoInstanceDataset', data_root='{data}/',
        metainfo=dict(classes=('red', 'green')),
        ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='isda_suite.CocoInstanceDataset', data_root='{data}/',
        metainfo=dict(classes=('red', 'green')), test_mode=True,
        ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='isda_suite.CocoMetric', metric='segm')
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5))
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
log_processor = dict(type='LogProcessor', by_epoch=False, window_size=1)
env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=60))
randomness = dict(seed=0)
"""


def write_config(folder, data, extra=''):
    """Write a configuration that trains ToySegmenter on the data of `write_coco`."""
    base = Path(__file__).parents[2] / 'configs/_base_'
    path = Path(folder) / 'toy.py'
    path.write_text(_CONFIG.format(base=base, data=data) + extra)
    return path


class ToyHead(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.conv_cls = nn.Conv2d(8, num_classes, 1)

    def forward(self, features):
        return self.conv_cls(features)


@MODELS.register_module()
class ToySegmenter(BaseModel):
    """One mask per class.

    `nan_at` makes the loss NaN at that step, on `nan_rank` alone, `nan_gradient_at` only its
    gradient; `ballast` numbers make checkpoints large.
    """

    def __init__(
        self,
        num_classes,
        data_preprocessor=None,
        nan_at=None,
        nan_rank=None,
        nan_gradient_at=None,
        double=False,
        dropout=0.0,
        ballast=0,
        init_cfg=None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = nn.Conv2d(3, 8, 3, padding=1)
        self.bbox_head = ToyHead(num_classes)
        self.nan_at, self.nan_rank, self.nan_gradient_at = nan_at, nan_rank, nan_gradient_at
        self.steps = 0
        self.dropout = nn.Dropout(dropout)
        self.register_buffer('ballast', torch.zeros(ballast))
        self.dtype = torch.float64 if double else torch.float32
        self.to(self.dtype)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.bbox_head(self.dropout(self.backbone(inputs.to(self.dtype)).relu()))
        if mode == 'loss':
            return self._loss(logits, data_samples)
        return self._predict(logits, data_samples) if mode == 'predict' else logits

    def _loss(self, logits, samples):
        target = torch.zeros_like(logits)
        for index, sample in enumerate(samples):
            masks = sample.gt_instances.masks.to_tensor(logits.dtype, logits.device)
            for mask, label in zip(masks, sample.gt_instances.labels, strict=True):
                target[index, label] = torch.maximum(target[index, label], mask)
        exact = torch.promote_types(logits.dtype, torch.float32)
        loss = binary_cross_entropy_with_logits(logits.to(exact), target.to(exact))
        self.steps += 1
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if self.steps == self.nan_at and self.nan_rank in (None, rank):
            loss = loss * float('nan')
        if self.steps == self.nan_gradient_at:
            loss.register_hook(lambda gradient: gradient * float('nan'))
        return {
            'loss_mask': loss,
            'dtype_bits': torch.tensor(float(torch.finfo(logits.dtype).bits)),
        }

    def _predict(self, logits, samples):
        from mmengine.structures import InstanceData

        for one, sample in zip(logits, samples, strict=True):
            h, w = sample.img_shape
            size = tuple(sample.ori_shape)
            scores = interpolate(one[None, :, :h, :w].float(), size, mode='bilinear').sigmoid()[0]
            masks = scores > 0.5
            kept = masks.flatten(1).any(1)
            boxes = torch.zeros(len(masks), 4)
            for index, mask in enumerate(masks):
                ys, xs = torch.where(mask)
                if len(ys):
                    boxes[index] = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            sample.pred_instances = InstanceData(
                labels=torch.arange(len(masks))[kept],
                scores=scores.flatten(1).max(1).values[kept],
                bboxes=boxes[kept],
                masks=masks[kept],
            )
        return samples


@TRANSFORMS.register_module()
class KillWorker:
    """Do to a data loading process what the kernel does when memory runs out."""

    def __call__(self, results):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


class KilledError(Exception):
    """Stands for a kill in tests that stay in one process."""


@HOOKS.register_module()
class LossFile(Hook):
    """Append `iteration loss` in exact digits to a file.

    Die before iteration `die_at`; send the signal number `send` to this process (of rank `rank`)
    before iteration `send_at`; end this process there with code 3 if `send` is 0, but not when
    torchrun has started it again. Sleep `pause_s`
    seconds after each iteration.
    """

    priority = 'VERY_LOW'

    def __init__(self, path, die_at=None, send_at=None, send=signal.SIGTERM, rank=0, pause_s=0):
        self.path, self.die_at, self.pause_s = path, die_at, pause_s
        self.send_at, self.send, self.rank = send_at, send, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.die_at:
            raise KilledError
        if runner.iter == self.send_at and runner.rank == self.rank:
            if not self.send and os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') == '0':
                os._exit(3)
            os.kill(os.getpid(), self.send)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank:
            return
        with open(self.path, 'a') as file:
            file.write(f'{runner.iter} {float(outputs["loss"]).hex()}\n')
        time.sleep(self.pause_s)


@HOOKS.register_module()
class SignalInValidation(Hook):
    """Send SIGUSR1 to this process in the first batch of the first validation."""

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            os.kill(os.getpid(), signal.SIGUSR1)

    def after_val_epoch(self, runner, metrics=None):
        raise AssertionError('the validation ran to its end')


@HOOKS.register_module()
class GradientFile(Hook):
    """Save the gradients the optimizer sees in its first step."""

    def __init__(self, path):
        self.path = path

    def before_train(self, runner):
        names = {id(p): n.removeprefix('module.') for n, p in runner.model.named_parameters()}

        def save(optimizer, args, kwargs):
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            found = {names[id(p)]: p.grad.clone() for p in parameters if p.grad is not None}
            if runner.rank == 0 and not Path(self.path).exists():
                torch.save(found, self.path)

        runner.optim_wrapper.optimizer.register_step_pre_hook(save)


@MODELS.register_module()
class ToyTTA(BaseTTAModel):
    """Takes the first of the views."""

    def merge_preds(self, data_samples_list):
        return [views[0] for views in data_samples_list]
