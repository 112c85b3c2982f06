"""ISDNet in plain tiles and in exact ones beside one pass: labels, mean IoU, time and memory.

    python benchmarks/tiles.py --sides 2048 4096 8192 --tile 1024
    python benchmarks/tiles.py --config CONFIG --checkpoint CKPT --scale 4 --tile 256 \
        --cfg-options data_root=DATA_ROOT

The first form segments noise with random weights, the second the test images of a configuration
with trained ones, and compares with their labels. Times are wall seconds of one run; memory is how
far the process rises in it.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

VARIANTS: dict[str, dict[str, Any]] = {
    'one pass': {},
    'tiles': dict(overlap=None),
    'exact tiles': dict(exact=True),
}


def noise_images(sides: list[int]) -> Iterator[tuple[Any, None]]:
    """Make pictures with structure of all sizes up to a tenth of a side."""
    rng = np.random.default_rng(0)
    for side in sides:
        coarse = rng.integers(0, 256, (10, 10, 3), np.uint8)
        fine = rng.integers(0, 64, (side // 4, side // 4, 3), np.uint8)
        parts = [cv2.resize(part, (side, side)) for part in (coarse, fine)]
        yield cv2.addWeighted(parts[0], 0.75, parts[1], 1, 0), None


def labelled_images(cfg: Any) -> Iterator[tuple[Any, Any]]:
    """Read the images of the test data and their labels, (H, W) each."""
    from mmengine.registry import DATASETS

    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        yield cv2.imread(sample.img_path), sample.gt_sem_seg.data[0]


def segmenters(model: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return what segments in each way."""
    from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings, TiledSegmenter

    one_pass = 1 << 20  # larger than any picture
    return {
        name: TiledSegmenter(
            model,
            SegmentSettings(
                scale=args.scale, tile=one_pass if name == 'one pass' else args.tile, **changes
            ),
        )
        for name, changes in VARIANTS.items()
    }


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Segment every image in every way; sum up over labelled ones."""
    model, images, num_classes = prepare(args)
    ways = segmenters(model, args)
    rows, counts = [], {name: 0 for name in ways}
    for image, label in images:
        row = run_all(ways, image)
        maps = {name: row[name].pop('map') for name in ways}
        if label is not None:
            add_counts(counts, maps, label, num_classes)
        rows.append({'side': max(image.shape[:2]), **row})
    if label is None:
        return rows
    return [
        {
            'images': len(rows),
            'tile': args.tile,
            'scale': args.scale,
            'side': max(row['side'] for row in rows),
            **{name: summary(rows, name, counts[name]) for name in ways},
        }
    ]


def prepare(args: argparse.Namespace) -> tuple[Any, Iterator[tuple[Any, Any]], int]:
    """Build the network, and what it is to segment."""
    from benchmarks.isdnet import build_model
    from isda_suite.apis.model import load_model
    from isda_suite.engine.config_file import parse_options, read_config

    if not args.config:
        model = build_model()
        images: Iterator[tuple[Any, Any]] = noise_images(args.sides)
    else:
        cfg = read_config(args.config, parse_options(args.cfg_options))
        model, images = load_model(cfg, args.checkpoint, 'cpu'), labelled_images(cfg)
    return model, images, model.out_channels


def run_all(ways: dict[str, Any], image: Any) -> dict[str, Any]:
    """Segment an image in every way; compare with one pass."""
    from isda_suite.engine.memory import peak_of

    row: dict[str, Any] = {}
    for name, segmenter in ways.items():
        start = time.perf_counter()
        found, peak = peak_of(lambda segmenter=segmenter: segmenter.segment(image))
        row[name] = {'seconds': round(time.perf_counter() - start, 2), 'map': found}
        row[name]['peak_mb'] = None if peak is None else round(peak / 2**20)
        differing = found != row['one pass']['map']
        row[name]['share_of_pixels_that_differ'] = round(float(differing.mean()), 6)
    return row


def add_counts(counts: dict[str, Any], maps: dict[str, Any], label: Any, num_classes: int) -> None:
    """Count the pixels of a labelled image."""
    from isda_suite.metrics.confusion import confusion

    for name, found in maps.items():
        counts[name] += confusion(torch.from_numpy(found), label, num_classes, 255)


def summary(rows: list[dict[str, Any]], name: str, counts: Any) -> dict[str, Any]:
    """Sum up the images of one way."""
    hits = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    shares = [row[name]['share_of_pixels_that_differ'] for row in rows]
    return {
        'mIoU': round(float((hits / union)[union > 0].mean()) * 100, 3),
        'share_of_pixels_that_differ': round(float(np.mean(shares)), 6),
        'worst_image': max(shares),
        'seconds': round(sum(row[name]['seconds'] for row in rows), 2),
    }


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sides', type=int, nargs='+', default=[2048, 4096])
    parser.add_argument('--tile', type=int, default=1024)
    parser.add_argument('--scale', type=float, default=1.0)
    parser.add_argument('--config', help='test images of it instead of noise')
    parser.add_argument('--checkpoint')
    parser.add_argument('--cfg-options', nargs='+', default=[])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    report = {
        'threads': args.threads,
        'torch': torch.__version__,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'date': time.strftime('%Y-%m-%d'),
        'weights': 'random' if args.checkpoint is None else 'trained',
        'rows': compare(args),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
