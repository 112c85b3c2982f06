"""What being careful costs: the check of a COCO-size file, and the hooks of every step.

    python benchmarks/guards.py --case check   # time and peak memory of the start-up check;
                                               # --images-last for the order of LVIS's lists
    python benchmarks/guards.py --case step    # share of a 100 ms step that the guards take

`step` trains a small layer in one process, in blocks with and without the guards, whose order
alternates; the claim is the difference of the median iterations over 100 ms.
"""

import argparse
import itertools
import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

GUARDS = ('FiniteLossHook', 'CountedRandomnessHook', 'CheckpointFitHook', 'PreemptionHook')
STEP_S = 0.1


def write_coco_size(
    path: Path, num_images: int, per_image: float, points: int, images_last: bool
) -> None:
    """Write a json with the counts of COCO train2017 and polygons of its mean length.

    Element by element: a process starts with the peak memory of the one that started it.
    """
    lists: dict[str, Iterable[dict[str, Any]]] = {
        'images': (
            {'id': index, 'file_name': f'{index:012d}.jpg', 'height': 480, 'width': 640}
            for index in range(num_images)
        ),
        'annotations': generate_annotations(num_images, per_image, points),
        'categories': ({'id': index, 'name': f'class {index}'} for index in range(1, 81)),
    }
    if images_last:
        lists['images'] = lists.pop('images')
    with path.open('w') as file:
        opening = '{'
        for key, elements in lists.items():
            file.write(f'{opening}"{key}": [')
            for number, element in enumerate(elements):
                file.write(', ' * bool(number) + json.dumps(element))
            file.write(']')
            opening = ', '
        file.write('}')


def generate_annotations(
    num_images: int, per_image: float, points: int
) -> Iterator[dict[str, Any]]:
    """Yield annotations with one polygon each."""
    import numpy as np

    rng = np.random.default_rng(0)
    identity = itertools.count()
    for index in range(num_images):
        for _ in range(rng.poisson(per_image)):
            x, y = float(rng.uniform(0, 500)), float(rng.uniform(0, 400))
            polygon = (rng.uniform(0, 60, (points, 2)) + np.array([x, y])).round(2).ravel().tolist()
            yield {
                'id': next(identity),
                'image_id': index,
                'category_id': int(rng.integers(1, 81)),
                'bbox': [x, y, 60.0, 60.0],
                'area': 2000.0,
                'iscrowd': 0,
                'segmentation': [polygon],
            }


def measure_check(num_images: int, images_last: bool) -> dict[str, Any]:
    """Check the file in a fresh process and return its time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'instances.json'
        write_coco_size(path, num_images, 7.3, 22, images_last)
        command = [sys.executable, __file__, '--case', 'check', '--file', str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {
            'images': num_images,
            'images_last': images_last,
            'file_mb': round(path.stat().st_size / 1e6, 1),
            **json.loads(done.stdout.strip().splitlines()[-1]),
        }


def check_file(path: Path) -> dict[str, Any]:
    """Check a file as the start of a training does."""
    from isda_suite.datasets.coco_checks import Expectation, check_coco
    from isda_suite.datasets.coco_entries import read_entries

    imported_mb = peak_mb()
    start = time.perf_counter(), time.process_time()
    expected = Expectation(
        ann_file=str(path), classes=None, root='', img_prefix='', needs_annotations=True,
        filter_empty=True, min_size=32,
    )  # fmt: skip
    report = check_coco(read_entries(path), expected)
    if report.fatal:
        raise SystemExit(str(report))
    return {
        'wall_s': round(time.perf_counter() - start[0], 2),
        'cpu_s': round(time.process_time() - start[1], 2),
        'imported_mb': imported_mb,
        'peak_mb': peak_mb(),
    }


def peak_mb() -> float:
    """Return the most memory this process has had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def iteration_times(with_guards: bool, iterations: int) -> list[float]:
    """Train a small layer and return the seconds of each iteration."""
    import torch
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    import isda_suite.engine.hooks as hooks

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: Any, mode: str = 'loss') -> dict[str, Any]:
            return {'loss': self.layer(x).square().mean()}

    class Clock(Hook):
        priority = 'LOWEST'

        def __init__(self) -> None:
            self.times: list[float] = []

        def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            model=Model(),
            work_dir=folder,
            train_dataloader=dict(
                batch_size=2,
                sampler=dict(type='InfiniteSampler'),
                dataset=[{'x': torch.ones(8)}] * 64,
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=None, logger=None),
            custom_hooks=[getattr(hooks, name)() for name in GUARDS] if with_guards else [],
            experiment_name=f'guards{time.time_ns()}',
            log_level='ERROR',
        )
        runner.register_hook(clock)
        runner.train()
    return [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]


def measure_step(iterations: int, rounds: int) -> dict[str, Any]:
    """Compare iterations with and without the guards."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for with_guards in (True, False) if number % 2 else (False, True):
            found[with_guards] += iteration_times(with_guards, iterations)
    medians = {key: statistics.median(values) for key, values in found.items()}
    extra = medians[True] - medians[False]
    return {
        'with_guards_ms': round(1e3 * medians[True], 4),
        'without_ms': round(1e3 * medians[False], 4),
        'share_of_100_ms': round(extra / STEP_S, 5),
    }


def main() -> None:
    """Measure one case and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=('check', 'step'), required=True)
    parser.add_argument('--images', type=int, default=118_287)
    parser.add_argument('--images-last', action='store_true', help='images behind annotations')
    parser.add_argument('--iterations', type=int, default=400)
    parser.add_argument('--rounds', type=int, default=4)
    parser.add_argument('--file', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    if args.file:
        print(json.dumps(check_file(args.file)))
        return
    if args.case == 'check':
        row = measure_check(args.images, args.images_last)
    else:
        row = measure_step(args.iterations, args.rounds)
    row |= {'case': args.case, 'cpu': platform.processor() or platform.machine()}
    print(json.dumps(row, indent=1))
    if args.out:
        args.out.write_text(json.dumps(row, indent=1) + '\n')


if __name__ == '__main__':
    main()
