"""A training step of DefVisTR beside an honest eager form with the same weights.

    python benchmarks/defvistr.py --case step    # 12 frames of 240 x 424, ours against eager
    python benchmarks/defvistr.py --case full    # our step at the true 36 frames of 300 x 533
    python benchmarks/defvistr.py --case slots   # peak memory of the mask branch by its slots

A step is forward, matching, losses, backward, clipping and AdamW, with dropout, on noise with
ellipses as ground truth. The eager form computes the masks of all slots and keeps everything;
a second one recomputes the layers of the transformer, as the published recipe does. Outputs, losses
and gradients are compared before anything is timed. Steps alternate in one process; the claim is
the ratio of the medians. Memory is the peak above what the process holds before the step, model and
state of the optimiser included, in a process of its own for each variant.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

# The steps and the rival lie beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.defvistr_steps import (
    VARIANTS,
    make_clip,
    make_sample,
    make_step,
    mask_step,
    require_equal_steps,
)
from benchmarks.side_by_side import (
    Row,
    add_arguments,
    in_own_process,
    measure_peak,
    ratios,
    report,
    take_turns,
)

GOALS = {'time': 0.7, 'memory': 0.5}
LIMIT_GB = 16


def measure_apart(work: str, args: argparse.Namespace, instances: int) -> Row:
    """Measure a variant, or the mask branch with so many slots, in a fresh process."""
    options = {
        'case': 'step',
        'peak-of': work,
        'frames': args.frames,
        'size': args.size,
        'instances': instances,
        'threads': args.threads,
    }
    # The C library keeps what small pieces lie in: that grows with the slots, and is no memory of
    # theirs. With these settings it gives everything back.
    exact = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '0'}
    return in_own_process(__file__, options, exact if work.isdigit() else None)


def warm_step(variant: str, frames: int) -> Callable[[torch.Tensor, Any], float]:
    """Return a training step that has run before, on small frames: the optimiser has its state."""
    step, small = make_step(variant, frames), (64, 96)
    step(make_clip(frames, small), make_sample(frames, small, 1))
    return step


def print_peak(work: str, args: argparse.Namespace) -> None:
    """Print the peak of one step in this process: above its start, and all it holds."""
    if work.isdigit():
        action = mask_step(int(work), args.frames, tuple(args.size))
        action()
    else:
        step = warm_step(work, args.frames)
        sample = make_sample(args.frames, tuple(args.size), args.instances[0])
        action = partial(step, make_clip(args.frames, tuple(args.size)), sample)
    print(json.dumps(measure_peak(action)))


def compare_steps(args: argparse.Namespace) -> list[Row]:
    """Compare time and memory of a step."""
    differences = require_equal_steps()
    size = (args.size[0], args.size[1])
    rows = []
    for instances in args.instances:
        row: Row = {'frames': args.frames, 'size': size, 'instances': instances}
        row['relative_differences'] = differences
        # First what is measured apart: this process is still small then.
        apart = {name: measure_apart(name, args, instances) for name in VARIANTS}
        clip, sample = make_clip(args.frames, size), make_sample(args.frames, size, instances)
        steps = {name: partial(warm_step(name, args.frames), clip, sample) for name in VARIANTS}
        for name, timing in take_turns(steps, args.rounds, warm_ups=0).items():
            row[name] = {**timing, **apart[name]}
        for name in VARIANTS[1:]:
            row[f'ours / {name}'] = ratios(row['ours'], row[name])
        row['reached'] = all(row['ours / eager'][what] <= goal for what, goal in GOALS.items())
        rows.append(row)
    return rows


def measure_full(args: argparse.Namespace) -> list[Row]:
    """Measure our step alone."""
    rows = []
    for instances in args.instances:
        row = {'frames': args.frames, 'size': args.size, 'instances': instances}
        row['ours'] = found = measure_apart('ours', args, instances)
        row['reached'] = found['process_mb'] <= LIMIT_GB * 1000
        rows.append(row)
    return rows


def measure_slots(args: argparse.Namespace) -> list[Row]:
    """Measure the mask branch by its slots."""
    return [{'slots': slots, **measure_apart(str(slots), args, 1)} for slots in (1, 2, 4, 8, 16)]


CASES = {'step': compare_steps, 'full': measure_full, 'slots': measure_slots}
DEFAULTS = {'step': (12, (240, 424)), 'full': (36, (300, 533)), 'slots': (12, (240, 424))}


def main() -> None:
    """Measure one case and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=CASES, required=True)
    parser.add_argument('--frames', type=int, help='default: those of the case')
    parser.add_argument('--size', type=int, nargs=2, help='height and width; default: as above')
    parser.add_argument('--instances', type=int, nargs='+', default=(3, 8), help='of a clip')
    add_arguments(parser, threads=2, rounds=5, runs='steps per variant that count')
    args = parser.parse_args()
    args.frames = args.frames or DEFAULTS[args.case][0]
    args.size = args.size or DEFAULTS[args.case][1]
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # mmengine lists every parameter it initialises
    if args.peak_of:
        print_peak(args.peak_of, args)
    else:
        report('DefVisTR', args, CASES[args.case])


if __name__ == '__main__':
    main()
