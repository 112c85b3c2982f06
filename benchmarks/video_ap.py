"""Video AP of isda_suite beside mmdet's YTVISeval, on generated tracks.

    python benchmarks/video_ap.py [--videos 300 --masks 10 --output benchmarks/results/FILE.md]

Every video of 360 x 640 has one to four moving, wobbling objects of one or two of 40 classes, and
MASKS results: most are moved copies of objects, mostly of the right class, the rest lies anywhere.
Annotations are lists of run lengths as the owners of YouTube-VIS publish them, results compressed
RLE. The clock runs from parsed json to the 12 numbers. The two evaluations take turns in one
process, after a first round that does not count; their memory is measured in a process for each.
What our check of a results file takes, which mmdet has none of, is measured apart.
"""

import argparse
import contextlib
import io
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_HEIGHT, _WIDTH, _CLASSES = 360, 640, 40
_TOLERANCE = 1e-12
Json = dict[str, Any]


class _Object:
    """An outline that moves through a video.

    Args:
        rng: Where its shape and way come from.
        label: Its class; None draws one.
    """

    def __init__(self, rng: np.random.Generator, label: int | None = None) -> None:
        self.at = rng.uniform(0, [_WIDTH, _HEIGHT])
        self.speed = rng.normal(0, 4, 2)
        self.radius = float(np.exp(rng.uniform(math.log(15), math.log(150))))
        self.radii = np.clip(1 + 0.25 * rng.standard_normal(24).cumsum() / 5, 0.3, 2)
        self.label = label or int(rng.integers(1, _CLASSES + 1))

    def copy(self, rng: np.random.Generator) -> '_Object':
        """Return what a model could find of it."""
        other = _Object(rng)
        other.at = self.at + rng.normal(0, 0.12, 2) * self.radius
        other.speed = self.speed
        other.radius = self.radius * math.exp(rng.normal(0, 0.12))
        other.radii = self.radii * rng.uniform(0.9, 1.1, 24)
        other.label = self.label if rng.random() < 0.8 else other.label
        return other

    def mask(self, rng: np.random.Generator, frame: int) -> Json:
        """Return the RLE of one frame, its edge rough as those of masks are."""
        from pycocotools import mask as coco_mask

        turn = np.linspace(0, 2 * math.pi, 96, endpoint=False)
        radii = np.interp(turn, turn[::4], self.radii, period=2 * math.pi) * self.radius
        radii = radii * rng.uniform(0.97, 1.03, 96)
        around = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radii[:, None]
        points = np.clip(self.at + frame * self.speed + around, 0, [_WIDTH - 1, _HEIGHT - 1])
        rle = coco_mask.frPyObjects([points.ravel().tolist()], _HEIGHT, _WIDTH)[0]
        return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def _runs(rle: Json) -> Json:
    """Return an RLE with its run lengths as a list."""
    from pycocotools import mask as coco_mask

    flat = coco_mask.decode(rle).ravel(order='F')
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {'size': rle['size'], 'counts': [0, *runs] if flat[0] else runs}


def _masks(rng: np.random.Generator, one: _Object, frames: int) -> list[Json | None]:
    first, last = sorted(rng.integers(0, 2 * frames, 2) - frames // 2)
    seen = range(max(first, 0), last) if last - max(first, 0) > frames // 3 else range(frames)
    return [one.mask(rng, frame) if frame in seen else None for frame in range(frames)]


def _generate(folder: Path, videos: int, frames: int, masks: int) -> tuple[int, int]:
    """Write ``gt.json`` and ``results.json``; return how many tracks are in each."""
    from pycocotools import mask as coco_mask
    from tqdm import tqdm

    annotations: list[Json] = []
    results: list[Json] = []
    for video_id in tqdm(range(1, videos + 1), 'generating', unit='video'):
        rng = np.random.default_rng([0, video_id])
        labels = rng.integers(1, _CLASSES + 1, rng.integers(1, 3))
        objects = [_Object(rng, int(rng.choice(labels))) for _ in range(rng.integers(1, 5))]
        for one in objects:
            rles = _masks(rng, one, frames)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'video_id': video_id,
                    'category_id': one.label,
                    'iscrowd': int(rng.random() < 0.02),
                    'segmentations': [rle and _runs(rle) for rle in rles],
                    'areas': [rle and int(coco_mask.area(rle)) for rle in rles],
                }
            )
        for _ in range(masks):
            near = rng.random() < 0.7
            one = objects[int(rng.integers(len(objects)))].copy(rng) if near else _Object(rng)
            results.append(
                {
                    'video_id': video_id,
                    'category_id': one.label,
                    'score': round(rng.random(), 4),
                    'segmentations': _masks(rng, one, frames),
                }
            )
    size = {'height': _HEIGHT, 'width': _WIDTH, 'length': frames}
    content = {
        'videos': [{'id': one, **size, 'file_names': []} for one in range(1, videos + 1)],
        'categories': [{'id': one, 'name': f'class {one}'} for one in range(1, _CLASSES + 1)],
        'annotations': annotations,
    }
    (folder / 'gt.json').write_text(json.dumps(content))
    (folder / 'results.json').write_text(json.dumps(results))
    return len(annotations), len(results)


def _ours(content: Json, results: list[Json]) -> list[float]:
    from isda_suite.metrics.youtube_vis_evaluation import evaluate_results, video_numbers

    return list(video_numbers(evaluate_results(content, results)).values())


def _mmdets(content: Json, results: list[Json]) -> list[float]:
    from mmdet.evaluation.functional import YTVIS, YTVISeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = YTVIS(content)
        evaluator = YTVISeval(ground_truth, ground_truth.loadRes(results), 'segm')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


_WAYS = {'mmdet YTVISeval': _mmdets, 'isda_suite': _ours}


def _measure(folder: Path, way: str) -> Json:
    """Evaluate in this process; libraries are loaded before the clock starts."""
    import resource

    tiny = {'videos': [{'id': 1, 'height': 4, 'width': 4, 'length': 1, 'file_names': []}]}
    rle = {'size': [4, 4], 'counts': [0, 16]}
    track = {'id': 1, 'video_id': 1, 'category_id': 1, 'iscrowd': 0, 'areas': [16]}
    tiny |= {'categories': [{'id': 1, 'name': 'x'}]}
    tiny |= {'annotations': [{**track, 'segmentations': [rle]}]}
    text = {'size': [4, 4], 'counts': '0`0'}
    _WAYS[way](tiny, [{'video_id': 1, 'category_id': 1, 'score': 1.0, 'segmentations': [text]}])
    content = json.loads((folder / 'gt.json').read_text())
    results = json.loads((folder / 'results.json').read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    values = _WAYS[way](content, results)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {'wall_s': wall, 'cpu_s': cpu, 'memory_mb': (after - before) / 1024, 'values': values}
    return {**found, 'check_s': _check(content, results), 'versions': _versions()}


def _take_turns(folder: Path, rounds: int) -> dict[str, list[Json]]:
    """Time both evaluations in this process, one after the other, each on freshly parsed files."""
    runs: dict[str, list[Json]] = {way: [] for way in _WAYS}
    for _ in range(rounds + 1):
        for way, evaluate in _WAYS.items():
            content = json.loads((folder / 'gt.json').read_text())
            results = json.loads((folder / 'results.json').read_text())
            wall, cpu = time.perf_counter(), time.process_time()
            evaluate(content, results)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            runs[way].append({'wall_s': wall, 'cpu_s': cpu})
    return {way: found[1:] for way, found in runs.items()}


def _check(content: Json, results: list[Json]) -> float:
    from isda_suite.apis.videos.results_file import check_results

    start = time.process_time()
    check_results(results, content, 'results.json')
    return time.process_time() - start


def _in_own_process(folder: Path, way: str) -> Json:
    command = [sys.executable, __file__, '--worker', way, '--folder', str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _medians(timed: list[Json], apart: list[Json]) -> Json:
    found = {key: statistics.median(run[key] for run in timed) for key in ('wall_s', 'cpu_s')}
    return {**found, 'memory_mb': statistics.median(run['memory_mb'] for run in apart)}


def _report(
    args: argparse.Namespace,
    counts: tuple[int, int],
    timed: dict[str, list[Json]],
    runs: dict[str, list[Json]],
) -> str:
    slow, fast = (_medians(timed[way], runs[way]) for way in _WAYS)
    theirs, ours = (runs[way][0]['values'] for way in _WAYS)
    versions = runs['isda_suite'][0]['versions']
    check = statistics.median(run['check_s'] for run in runs['isda_suite'])
    worst = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
    names = ['AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large']
    names += ['AR@1', 'AR@10', 'AR@100', 'AR small', 'AR medium', 'AR large']
    ratios = [slow['wall_s'] / fast['wall_s'], slow['cpu_s'] / fast['cpu_s']]
    lines = [
        '# Video AP: isda_suite beside mmdet',
        '',
        f'{args.videos} videos of {args.frames} frames of {_HEIGHT} x {_WIDTH}, {counts[0]} '
        f'annotated tracks, {counts[1]} results ({args.masks} a video), {_CLASSES} classes; '
        '`python benchmarks/video_ap.py`.',
        f'{platform.machine()}, {os.cpu_count()} cores (shared with other work), one thread, '
        f'Python {platform.python_version()}, {versions}. From parsed json to the 12 numbers, '
        f'medians of {args.repeats} rounds in one process, taking turns; each video has objects of '
        'one or two classes.',
        '',
        '| evaluation | wall s | CPU s | memory above start MB |',
        '| --- | --- | --- | --- |',
        *(
            f'| {way} | {one["wall_s"]:.2f} | {one["cpu_s"]:.2f} | {one["memory_mb"]:.0f} |'
            for way, one in zip(_WAYS, (slow, fast), strict=True)
        ),
        f'| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} | |',
        '',
        f'The check of a results file (videos, lengths, scores, masks), which mmdet does not make, '
        f'takes {check:.2f} CPU s more; results of a test need none.',
        f'Largest difference of the 12 numbers: {worst:.1e} (allowed {_TOLERANCE:.0e}): '
        f'{"equal" if worst <= _TOLERANCE else "NOT EQUAL"}.',
        '',
        '| number | mmdet YTVISeval | isda_suite |',
        '| --- | --- | --- |',
        *(f'| {n} | {a:.12f} | {b:.12f} |' for n, a, b in zip(names, theirs, ours, strict=True)),
    ]
    return '\n'.join(lines) + '\n'


def _versions() -> str:
    from importlib.metadata import version

    import mmdet

    others = [f'{name} {version(name)}' for name in ('pycocotools', 'numpy')]
    return ', '.join([f'mmdet {mmdet.__version__}', *others])


def main() -> int:
    """Generate, measure both, report; 1 when their numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--videos', type=int, default=300)
    parser.add_argument('--frames', type=int, default=36)
    parser.add_argument('--masks', type=int, default=10)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--output', type=Path, help='write the report here too')
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(_measure(args.folder, args.worker)))
        return 0
    runs: dict[str, list[Json]] = {way: [] for way in _WAYS}
    with tempfile.TemporaryDirectory() as name:
        counts = _generate(Path(name), args.videos, args.frames, args.masks)
        for way in _WAYS:
            print(f'the memory of {way} ...', flush=True)
            runs[way].append(_in_own_process(Path(name), way))
        print('in turns ...', flush=True)
        timed = _take_turns(Path(name), args.repeats)
    report = _report(args, counts, timed, runs)
    print(report)
    if args.output:
        args.output.write_text(report)
    return 0 if 'NOT EQUAL' not in report else 1


if __name__ == '__main__':
    sys.exit(main())
