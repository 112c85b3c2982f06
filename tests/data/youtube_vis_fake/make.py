"""Make a tiny data set in YouTube-VIS format: three videos, two classes, every kind of mask."""

import json
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 48, 64
SQUARE = [10.0, 8.0, 30.0, 8.0, 30.0, 28.0, 10.0, 28.0]
LENGTHS = {1: 4, 2: 3, 3: 2}


def mask(x, y, w, h):
    """Return a (HEIGHT, WIDTH) mask of a rectangle."""
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order='F')
    found[y : y + h, x : x + w] = 1
    return found


def run_lengths(pixels):
    """Return the uncompressed RLE that the format's owners publish."""
    runs = [(value, len(list(group))) for value, group in groupby(pixels.flatten('F').tolist())]
    first = [0] if runs[0][0] else []
    return {'size': [HEIGHT, WIDTH], 'counts': first + [length for _, length in runs]}


def compressed(pixels):
    """Return the RLE as text."""
    rle = coco_mask.encode(pixels)
    return {'size': [HEIGHT, WIDTH], 'counts': rle['counts'].decode('ascii')}


def content():
    """Return the annotations; video 3 has only a crowd region.

    Track 11 goes to the right by 5 pixels a frame and is hidden in frame 1.
    """
    moving = [None if frame == 1 else (2 + 5 * frame, 30, 10, 16) for frame in range(4)]
    standing = [(40, 4, 12, 12)] * 4
    square = [(10, 8, 20, 20)] * 3
    polygons = _track(13, 2, 9, square, lambda pixels: [SQUARE])
    return {
        'videos': [_video(identity, length) for identity, length in LENGTHS.items()],
        'categories': [{'id': 5, 'name': 'cat'}, {'id': 9, 'name': 'dog'}],
        'annotations': [
            _track(11, 1, 9, moving, run_lengths),
            _track(12, 1, 5, standing, compressed),
            polygons,
            _track(14, 3, 5, [(0, 0, 10, 48)] * 2, run_lengths, crowd=1),
        ],
    }


def _video(identity, length):
    return {
        'id': identity,
        'height': HEIGHT,
        'width': WIDTH,
        'length': length,
        'file_names': [f'v{identity}/{frame:05d}.jpg' for frame in range(length)],
    }


def _track(identity, video, category, boxes, encode, crowd=0):
    return {
        'id': identity,
        'video_id': video,
        'category_id': category,
        'iscrowd': crowd,
        'bboxes': [box and list(box) for box in boxes],
        'areas': [box and box[2] * box[3] for box in boxes],
        'segmentations': [box and encode(mask(*box)) for box in boxes],
    }


def make(root, change=None):
    """Write the data set.

    Args:
        root: Folder to make.
        change: Function that spoils the annotations in place.
    """
    root = Path(root)
    frames = root / 'train' / 'JPEGImages'
    annotations = content()
    for video in annotations['videos']:
        (frames / f'v{video["id"]}').mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(video['file_names']):
            rng = np.random.default_rng([video['id'], number])
            cv2.imwrite(str(frames / name), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    if change is not None:
        change(annotations)
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations' / 'instances_train_sub.json').write_text(json.dumps(annotations))
    return root


def config(root, **changes):
    """Return the data set's part of a config."""
    return {
        'type': 'isda_suite.YouTubeVISInstanceDataset',
        'data_root': str(root),
        'ann_file': 'annotations/instances_train_sub.json',
        'data_prefix': {'img_path': 'train/JPEGImages'},
        'metainfo': {'classes': ('cat', 'dog')},
        'filter_cfg': {'filter_empty_gt': True, 'min_size': 32},
        **changes,
    }


def clip_config(root, **changes):
    """Return the part of a config that gives the clips of the videos, for tests."""
    kind = {'type': 'isda_suite.YouTubeVISClipDataset', 'test_mode': True}
    return config(root, **{**kind, 'clip_len': 3, 'overlap': 1, **changes})
