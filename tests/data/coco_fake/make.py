"""Make a tiny data set in COCO format: three images, two classes, every kind of annotation."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 48, 64
SQUARE = [10.0, 8.0, 30.0, 8.0, 30.0, 28.0, 10.0, 28.0]


def _rle(rows, columns):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order='F')
    mask[rows, columns] = 1
    rle = coco_mask.encode(mask)
    return {'size': [HEIGHT, WIDTH], 'counts': rle['counts'].decode('ascii')}


def content():
    """Return the annotations; image 3 has only a crowd region."""
    crowd = {'size': [HEIGHT, WIDTH], 'counts': [0, 480, HEIGHT * WIDTH - 480]}
    return {
        'images': [
            {'id': 10 + index, 'file_name': f'{index}.jpg', 'height': HEIGHT, 'width': WIDTH}
            for index in range(3)
        ],
        'categories': [{'id': 5, 'name': 'cat'}, {'id': 9, 'name': 'dog'}],
        'annotations': [
            _annotation(1, 10, 5, [SQUARE], [10, 8, 20, 20], 400),
            _annotation(2, 10, 9, _rle(slice(30, 46), slice(2, 12)), [2, 30, 10, 16], 160),
            _annotation(3, 11, 9, [SQUARE], [10, 8, 20, 20], 400),
            _annotation(4, 12, 5, crowd, [0, 0, 10, 48], 480, crowd=1),
        ],
    }


def _annotation(identity, image, category, segmentation, bbox, area, crowd=0):
    return {
        'id': identity,
        'image_id': image,
        'category_id': category,
        'segmentation': segmentation,
        'bbox': bbox,
        'area': area,
        'iscrowd': crowd,
    }


def make(root, change=None):
    """Write the data set.

    Args:
        root: Folder to make.
        change: Function that spoils the annotations in place.
    """
    root = Path(root)
    (root / 'train').mkdir(parents=True, exist_ok=True)
    (root / 'annotations').mkdir(exist_ok=True)
    annotations = content()
    for image in annotations['images']:
        pixels = np.random.default_rng(image['id']).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(root / 'train' / image['file_name']), pixels)
    if change is not None:
        change(annotations)
    (root / 'annotations' / 'instances_train.json').write_text(json.dumps(annotations))
    return root


def config(root, **changes):
    """Return the data set's part of a config."""
    return {
        'type': 'isda_suite.CocoInstanceDataset',
        'data_root': str(root),
        'ann_file': 'annotations/instances_train.json',
        'data_prefix': {'img': 'train/'},
        'metainfo': {'classes': ('cat', 'dog')},
        'filter_cfg': {'filter_empty_gt': True, 'min_size': 32},
        **changes,
    }
