"""Make a tiny data set in DeepGlobe's layout: four images, masks of ids and of colours."""

from pathlib import Path

import cv2
import numpy as np

from isda_suite.datasets import DeepGlobeDataset

SIZE_HW = (48, 64)
NAMES = ('7', '21', '303', '4004')
PALETTE = np.array(DeepGlobeDataset.METAINFO['palette'], np.uint8)


def ids(index):
    """Return the class ids of an image: three stripes, their classes moving on with the index."""
    label = np.empty(SIZE_HW, np.uint8)
    for stripe, columns in enumerate((slice(0, 20), slice(20, 44), slice(44, 64))):
        label[:, columns] = (index + 2 * stripe) % 7
    return label


def write_image(path, label):
    """Write an image whose colours tell the classes, under some noise."""
    noise = np.random.default_rng(label[0, 0]).integers(0, 40, (*label.shape, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), PALETTE[label][..., ::-1] // 2 + noise)


def write_mask(path, mask):
    """Write ids (H, W) or RGB colours (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask if mask.ndim == 2 else mask[..., ::-1])


def make(root, parts=('train', 'val')):
    """Write ``img_dir/PART``, ``rgb2id/PART`` (ids) and ``rgb/PART`` (colours)."""
    root = Path(root)
    for part in parts:
        for index, name in enumerate(NAMES):
            label = ids(index)
            write_image(root / 'img_dir' / part / f'{name}_sat.jpg', label)
            write_mask(root / 'rgb2id' / part / f'{name}_mask.png', label)
            write_mask(root / 'rgb' / part / f'{name}_mask.png', PALETTE[label])
    return root


def config(root, part='train', raw=False, **changes):
    """Return the data set's part of a config."""
    masks = 'rgb' if raw else 'rgb2id'
    return {
        'type': 'isda_suite.DeepGlobeDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': f'img_dir/{part}', 'seg_map_path': f'{masks}/{part}'},
        **({'raw_masks': True} if raw else {}),
        **changes,
    }
