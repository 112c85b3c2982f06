"""Configs of models that run in milliseconds, written where a test wants them."""

from pathlib import Path

import cv2
import numpy as np

DETECTOR = """
default_scope = 'mmdet'
model = dict(
    type='SOLO',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True,
        pad_mask=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3),
        style='pytorch', init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    mask_head=dict(
        type='SOLOHead', num_classes=3, in_channels=16, stacked_convs=1, feat_channels=16,
        strides=[8, 8, 16, 32, 32], scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768),
        (384, 2048)), pos_scale=0.2, num_grids=[8, 6, 5, 4, 3], cls_down_index=0,
        norm_cfg=dict(type='GN', num_groups=4),
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, activate=False, loss_weight=3.0),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)),
    test_cfg=dict(nms_pre=50, score_thr=0.0, mask_thr=0.5, filter_thr=0.0, kernel='gaussian',
                  sigma=2.0, max_per_img=10))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                                          'scale_factor'))]
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='CocoDataset', data_root='absent/', ann_file='absent.json', data_prefix=dict(img='img/'),
    metainfo=dict(classes=('ant', 'bee', 'cat')), test_mode=True, pipeline=pipeline))
"""

SEGMENTOR = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, num_stages=4,
        out_indices=(0, 1, 2, 3), norm_cfg=dict(type='SyncBN', requires_grad=True)),
    decode_head=dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, concat_input=False,
        num_classes=2, norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    test_cfg=dict(mode='whole'))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='BaseSegDataset', data_root='absent/', test_mode=True, pipeline=pipeline,
    metainfo=dict(classes=('land', 'sea'), palette=[[0, 99, 0], [0, 0, 99]])))
"""


def write_config(folder: Path, text: str = DETECTOR, name: str = 'tiny.py') -> Path:
    """Write a config file."""
    file = folder / name
    file.write_text(text)
    return file


def write_image(file: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    """Write a picture of noise with a bright box in it."""
    image = np.random.default_rng(seed).integers(0, 90, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)
    return file
