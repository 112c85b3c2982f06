"""Make a tiny data set in the layout of Inria aerial images: converted and official names."""

from pathlib import Path

import cv2
import numpy as np

SIZE_HW = (40, 40)
NAMES = ('austin1', 'chicago2', 'vienna3')


def ids(index):
    """Return the class ids of an image: one building, none in the last image."""
    label = np.zeros(SIZE_HW, np.uint8)
    if index < len(NAMES) - 1:
        label[8 + index : 24, 10:30] = 1
    return label


def make(root):
    """Write ``imgs`` and ``labels`` (ids), and ``official/{images,gt}`` (0 and 255)."""
    root = Path(root)
    for folder in ('imgs/train', 'labels/train', 'official/images', 'official/gt'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(NAMES):
        label = ids(index)
        noise = np.random.default_rng(index).integers(0, 60, (*SIZE_HW, 3), np.uint8)
        image = noise + 120 * label[..., None]
        for path, pixels in {
            f'imgs/train/{name}_sat.tif': image,
            f'labels/train/{name}_mask.png': label,
            f'official/images/{name}.tif': image,
            f'official/gt/{name}.tif': 255 * label,
        }.items():
            assert cv2.imwrite(str(root / path), pixels)
    return root


def config(root, official=False, **changes):
    """Return the data set's part of a config."""
    prefix = {'img_path': 'imgs/train', 'seg_map_path': 'labels/train'}
    names = {}
    if official:
        prefix = {'img_path': 'official/images', 'seg_map_path': 'official/gt'}
        names = {'img_suffix': '.tif', 'seg_map_suffix': '.tif', 'raw_masks': True}
    return {
        'type': 'isda_suite.InriaAerialDataset',
        'data_root': str(root),
        'data_prefix': prefix,
        **names,
        **changes,
    }
