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
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

# The steps and the rival lie beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.defvistr_steps import (
    VARIANTS,
    Step,
    make_clip,
    make_sample,
    make_step,
    mask_step,
    require_equal_steps,
)

GOALS = {'time': 0.7, 'memory': 0.5}
LIMIT_GB = 16


def alternate(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Time steps in turns."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    return {
        name: {
            'wall_median_s': round(statistics.median(wall[name]), 3),
            'cpu_median_s': round(statistics.median(cpu[name]), 3),
        }
        for name in steps
    }


def measure_apart(work: str, args: argparse.Namespace, instances: int) -> dict[str, float]:
    """Measure a variant, or the mask branch with so many slots, in a fresh process."""
    command = [sys.executable, __file__, '--case', 'step', '--peak-of', work]
    command += ['--frames', str(args.frames), '--size', *map(str, args.size)]
    command += ['--instances', str(instances), '--threads', str(args.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def warm_step(variant: str, frames: int) -> Callable[[torch.Tensor, Any], float]:
    """Return a training step that has run before, on small frames: the optimiser has its state."""
    step, small = make_step(variant, frames), (64, 96)
    step(make_clip(frames, small), make_sample(frames, small, 1))
    return step


def print_peak(work: str, args: argparse.Namespace) -> None:
    """Print the peak of one step in this process: above its start, and all it holds."""
    from isda_suite.engine.memory import peak_of, used_memory

    if work.isdigit():
        action = mask_step(int(work), args.frames, tuple(args.size))
        action()
    else:
        step = warm_step(work, args.frames)
        sample = make_sample(args.frames, tuple(args.size), args.instances[0])
        action = partial(step, make_clip(args.frames, tuple(args.size)), sample)
    peak_of(lambda: None)  # gives back what is free, so that what is held now is counted alone
    before = used_memory()
    start = time.perf_counter(), time.process_time()
    _, peak = peak_of(action)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    if peak is None or before is None:
        raise SystemExit('this kernel does not tell the peak of a process')
    sizes = {'peak_mb': peak / 2**20, 'process_mb': (before + peak) / 2**20}
    times = {'wall_s': wall, 'cpu_s': cpu}  # of this one step
    print(json.dumps({name: round(value, 1) for name, value in {**sizes, **times}.items()}))


def compare_steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare time and memory of a step."""
    differences = require_equal_steps()
    size = (args.size[0], args.size[1])
    rows = []
    for instances in args.instances:
        row: dict[str, Any] = {'frames': args.frames, 'size': size, 'instances': instances}
        row['relative_differences'] = differences
        # First what is measured apart: this process is still small then.
        apart = {name: measure_apart(name, args, instances) for name in VARIANTS}
        clip, sample = make_clip(args.frames, size), make_sample(args.frames, size, instances)
        steps = {name: partial(warm_step(name, args.frames), clip, sample) for name in VARIANTS}
        for name, timing in alternate(steps, args.rounds).items():
            row[name] = {**timing, **apart[name]}
        for name in VARIANTS[1:]:
            row[f'ours / {name}'] = {
                'time': round(row['ours']['cpu_median_s'] / row[name]['cpu_median_s'], 3),
                'memory': round(row['ours']['peak_mb'] / row[name]['peak_mb'], 3),
            }
        row['reached'] = all(row['ours / eager'][what] <= goal for what, goal in GOALS.items())
        rows.append(row)
    return rows


def measure_full(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure our step alone."""
    rows = []
    for instances in args.instances:
        row = {'frames': args.frames, 'size': args.size, 'instances': instances}
        row['ours'] = found = measure_apart('ours', args, instances)
        row['reached'] = found['process_mb'] <= LIMIT_GB * 1000
        rows.append(row)
    return rows


def measure_slots(args: argparse.Namespace) -> list[dict[str, Any]]:
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
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=5, help='steps per variant that count')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--peak-of', help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.frames = args.frames or DEFAULTS[args.case][0]
    args.size = args.size or DEFAULTS[args.case][1]
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # mmengine lists every parameter it initialises
    if args.peak_of:
        print_peak(args.peak_of, args)
    else:
        report(args)


def as_markdown(content: dict[str, Any]) -> str:
    """Show the rows as tables: one a row with variants below each other, else one for all."""
    said = ('threads', 'torch', 'python', 'machine', 'date', 'load')
    lines = [f'# DefVisTR: {content["case"]}', '']
    lines += [', '.join(f'{name} {content[name]}' for name in said) + '.', '']
    tables = []
    for row in content['rows']:
        variants = {k: v for k, v in row.items() if isinstance(v, dict)}
        facts = {k: v for k, v in row.items() if k not in variants}
        if variants:
            lines += [', '.join(f'{k} {v}' for k, v in facts.items()) + '.', '']
            for columns in {tuple(v): None for v in variants.values()}:
                chosen = {k: v for k, v in variants.items() if tuple(v) == columns}
                lines += _table([{'': name, **values} for name, values in chosen.items()])
        else:
            tables.append(facts)
    return '\n'.join(lines + (_table(tables) if tables else [])).rstrip() + '\n'


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(rows[0])
    shown = [[str(row[name]) for name in names] for row in rows]
    return [f'| {" | ".join(line)} |' for line in (names, ['---'] * len(names), *shown)] + ['']


def report(args: argparse.Namespace) -> None:
    """Print the rows of a case with what they were measured on, and write them."""
    before = os.getloadavg()
    content = {
        'case': args.case,
        'threads': args.threads,
        'torch': torch.__version__,
        'python': platform.python_version(),
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'date': time.strftime('%Y-%m-%d'),
        'rows': CASES[args.case](args),
        'load': [round(before[0], 1), round(os.getloadavg()[0], 1)],
    }
    text = json.dumps(content, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')
        args.out.with_suffix('.md').write_text(as_markdown(content))


if __name__ == '__main__':
    main()
