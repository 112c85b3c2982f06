"""COCO mask evaluation through faster-coco-eval beside pycocotools, on generated results.

    python benchmarks/coco_eval.py [--images 5000 --masks 100 --output benchmarks/results/FILE.md]

Every image gets about seven objects of 80 classes, as COCO has, and MASKS detections: most are
moved and rescaled copies of objects, the rest lies anywhere. Each back-end runs in a process of its
own on the same files, so that neither finds the other's caches or memory.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_HEIGHT, _WIDTH, _CLASSES = 480, 640, 80
_OBJECTS_AN_IMAGE = 7
_TOLERANCE = 1e-6


def _outline(rng: np.random.Generator, blob: tuple[float, float, float]) -> list[float]:
    """Return a wobbly polygon: [x1, y1, ...]."""
    x, y, radius = blob
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    radii = radius * (1 + 0.25 * rng.standard_normal(24).cumsum() / 5)
    radii = np.clip(radii, 0.3 * radius, 2 * radius)
    points = np.stack([x + radii * np.cos(turn), y + radii * np.sin(turn)], axis=1)
    return np.clip(points, 0, [_WIDTH - 1, _HEIGHT - 1]).round(2).ravel().tolist()


def _blob(rng: np.random.Generator) -> tuple[float, float, float]:
    radius = float(np.exp(rng.uniform(math.log(5), math.log(140))))
    return float(rng.uniform(0, _WIDTH)), float(rng.uniform(0, _HEIGHT)), radius


def _image(
    rng: np.random.Generator, image_id: int, num_masks: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the annotations and detections of one image."""
    from pycocotools import mask as coco_mask

    blobs = [_blob(rng) for _ in range(int(rng.poisson(_OBJECTS_AN_IMAGE)))]
    classes = rng.integers(1, _CLASSES + 1, len(blobs))
    annotations = []
    for blob, label in zip(blobs, classes, strict=True):
        rle = coco_mask.merge(coco_mask.frPyObjects([_outline(rng, blob)], _HEIGHT, _WIDTH))
        annotations.append(_annotation(rle, image_id, int(label), bool(rng.random() < 0.02)))
    outlines, labels = [], []
    for _ in range(num_masks):
        if blobs and rng.random() < 0.7:
            chosen = int(rng.integers(len(blobs)))
            x, y, radius = blobs[chosen]
            dx, dy, scale = rng.normal(0, 0.12, 3)
            outlines.append(
                _outline(rng, (x + dx * radius, y + dy * radius, radius * math.exp(scale)))
            )
            labels.append(int(classes[chosen]))
        else:
            outlines.append(_outline(rng, _blob(rng)))
            labels.append(int(rng.integers(1, _CLASSES + 1)))
    rles = coco_mask.frPyObjects(outlines, _HEIGHT, _WIDTH)
    scores = rng.random(num_masks).round(4)
    detections = [
        {
            'image_id': image_id,
            'category_id': label,
            'score': float(score),
            'segmentation': _text(rle),
        }
        for rle, label, score in zip(rles, labels, scores, strict=True)
    ]
    return annotations, detections


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def _annotation(rle: dict[str, Any], image_id: int, label: int, crowd: bool) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    return {
        'image_id': image_id,
        'category_id': label,
        'iscrowd': int(crowd),
        'area': float(coco_mask.area(rle)),
        'bbox': [float(value) for value in coco_mask.toBbox(rle)],
        'segmentation': _text(rle),
    }


def _generate(folder: Path, num_images: int, num_masks: int) -> tuple[int, int]:
    """Write ``gt.json`` and ``results.jsonl``, one line an image; return how many of each."""
    from tqdm import tqdm

    annotations: list[dict[str, Any]] = []
    count = 0
    with (folder / 'results.jsonl').open('w') as file:
        for image_id in tqdm(range(1, num_images + 1), 'generating', unit='img'):
            found, detections = _image(np.random.default_rng([0, image_id]), image_id, num_masks)
            annotations += [{'id': len(annotations) + k + 1, **one} for k, one in enumerate(found)]
            count += len(detections)
            file.write(json.dumps(detections) + '\n')
    images = [
        {'id': one, 'file_name': f'{one}.jpg', 'height': _HEIGHT, 'width': _WIDTH}
        for one in range(1, num_images + 1)
    ]
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': one, 'name': f'class {one}'} for one in range(1, _CLASSES + 1)],
    }
    (folder / 'gt.json').write_text(json.dumps(content))
    return len(annotations), count


def _read_results(folder: Path) -> Iterator[dict[str, Any]]:
    with (folder / 'results.jsonl').open() as file:
        for line in file:
            yield from json.loads(line)


def _measure(folder: Path, backend: str) -> dict[str, Any]:
    """Evaluate in this process."""
    import resource

    from isda_suite.metrics.coco_evaluation import (
        average_precisions,
        average_recalls,
        evaluate,
        load_ground_truth,
    )

    content = json.loads((folder / 'gt.json').read_text())
    detections = list(_read_results(folder))
    images = [image['id'] for image in content['images']]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    ground_truth = load_ground_truth(content, backend)
    evaluation = evaluate(ground_truth, detections, 'segm', images, range(1, _CLASSES + 1))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        'wall_s': wall,
        'cpu_s': cpu,
        'memory_mb': (after - before) / 1024,
        'values': average_precisions(evaluation) | average_recalls(evaluation),
    }


def _in_own_process(folder: Path, backend: str) -> dict[str, Any]:
    command = [sys.executable, __file__, '--worker', backend, '--folder', str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _report(args: argparse.Namespace, counts: tuple[int, int], found: dict[str, Any]) -> str:
    slow, fast = found['pycocotools'], found['faster']
    worst = max(abs(slow['values'][key] - fast['values'][key]) for key in slow['values'])
    lines = [
        '# COCO mask evaluation: faster-coco-eval beside pycocotools',
        '',
        f'{args.images} images of {_HEIGHT} x {_WIDTH}, {counts[0]} objects, {counts[1]} '
        f'detections ({args.masks} an image), {_CLASSES} classes; '
        '`python benchmarks/coco_eval.py`.',
        f'{platform.machine()}, {os.cpu_count()} cores (shared with other work), Python '
        f'{platform.python_version()}, {_versions()}.',
        '',
        '| back-end | wall s | CPU s | memory above start MB |',
        '| --- | --- | --- | --- |',
        *(
            f'| {name} | {one["wall_s"]:.1f} | {one["cpu_s"]:.1f} | {one["memory_mb"]:.0f} |'
            for name, one in found.items()
        ),
        f'| ratio | {slow["wall_s"] / fast["wall_s"]:.2f} | {slow["cpu_s"] / fast["cpu_s"]:.2f} |'
        f' {slow["memory_mb"] / max(fast["memory_mb"], 1):.2f} |',
        '',
        f'Largest difference of the {len(slow["values"])} values: {worst:.1e} '
        f'(allowed {_TOLERANCE:.0e}): {"equal" if worst <= _TOLERANCE else "NOT EQUAL"}.',
        "`backend='auto'` of `isda_suite.CocoMetric` takes faster-coco-eval where it is installed.",
        '',
        '| value | pycocotools | faster |',
        '| --- | --- | --- |',
        *(
            f'| {key} | {slow["values"][key]:.8f} | {fast["values"][key]:.8f} |'
            for key in slow['values']
        ),
    ]
    return '\n'.join(lines) + '\n'


def _versions() -> str:
    from importlib.metadata import version

    return ', '.join(f'{name} {version(name)}' for name in ('pycocotools', 'faster-coco-eval'))


def main() -> int:
    """Generate, measure both back-ends, report; 1 when their numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--masks', type=int, default=100)
    parser.add_argument('--output', type=Path, help='write the report here too')
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(_measure(args.folder, args.worker)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        counts = _generate(Path(name), args.images, args.masks)
        found = {}
        for backend in ('pycocotools', 'faster'):
            print(f'evaluating with {backend} ...', flush=True)
            found[backend] = _in_own_process(Path(name), backend)
    report = _report(args, counts, found)
    print(report)
    if args.output:
        args.output.write_text(report)
    return 0 if 'NOT EQUAL' not in report else 1


if __name__ == '__main__':
    sys.exit(main())
