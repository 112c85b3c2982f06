"""What IUQ costs in training: its steps, its memory, its uniqueness term. One process, ratios.

    python benchmarks/iuq.py --case step --model solov2  # a step over that of the plain detector
    python benchmarks/iuq.py --case step --model isda
    python benchmarks/iuq.py --case memory               # 100 000 pixels of 256 numbers
    python benchmarks/iuq.py --case uniqueness           # the term beside its dense form

`step` trains two images of noise with ellipses as ground truth, from random weights, with a memory
that is full, as it is after the first steps of a run. The base losses of all variants are compared
with the plain detector's bit for bit before anything is timed. The default draws a flip, a crop or
both in every step, and a crop is less work than a flip: flips alone are the dearest case.
Variants take turns; the claim is the ratio of the medians of processor time. Peaks are measured
above what the process holds before, in a process of its own for each variant.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# The steps and the rival lie beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.iuq_steps import (
    CAPACITY,
    EVERY_FOURTH,
    MODELS,
    PLAIN,
    QUERIES,
    WIDTH,
    make_rows,
    make_step,
    make_uniqueness,
    require_equal_base,
    variants_of,
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

GOALS = {'uniqueness': 1.10, 'equivariance every step': 2.0, EVERY_FOURTH: 1.35}
UNIQUENESS = ('ours', 'ours, any adapter', 'dense')
MEMORIES = ('ours', 'concatenated float32')
GOAL_MB = 60
BATCH = 500  # pixels that a step stores: 10 instances of 50


def compare_steps(args: argparse.Namespace) -> list[Row]:
    """Compare the time of a training step with that of the plain detector."""
    config, side, width = MODELS[args.model]
    side = args.side or side
    row: Row = {'config': config, 'images': 2, 'side': side, 'objects': args.objects}
    row |= {'pixels in memory': CAPACITY, 'numbers of a pixel': width}
    options = {PLAIN: None, **variants_of(args.model)}
    steps = {name: make_step(args.model, given, side, args.objects)
             for name, given in options.items()}  # fmt: skip
    require_equal_base(steps)  # which is the warm-up, too
    single = steps[EVERY_FOURTH]
    steps[EVERY_FOURTH] = lambda: [single() for _ in range(4)][-1]
    row.update(take_turns(steps, args.rounds, warm_ups=0))
    row[EVERY_FOURTH] = {key: round(value / 4, 6) for key, value in row[EVERY_FOURTH].items()}
    for name in list(options)[1:]:
        row[f'{name} / {PLAIN}'] = ratios(row[name], row[PLAIN])
    row['reached'] = all(row[f'{name} / {PLAIN}']['time'] <= goal for name, goal in GOALS.items())
    return [row]


def compare_uniqueness(args: argparse.Namespace) -> list[Row]:
    """Compare value, gradient, time and peak of the term with those of its dense form."""
    row: Row = {'queries': QUERIES, 'pixels': CAPACITY, 'numbers of a pixel': WIDTH}
    apart = {name: measure_apart('uniqueness', name, args) for name in UNIQUENESS}
    rows = make_rows(WIDTH)[0].half()
    runs = {name: make_uniqueness(name, rows) for name in UNIQUENESS}
    row['relative_differences'] = require_equal_terms(runs)
    for name, timing in take_turns(runs, args.rounds).items():
        row[name] = {**timing, **apart[name]}
    for name in UNIQUENESS[:-1]:
        row[f'{name} / dense'] = found = ratios(row[name], row['dense'])
    row['reached'] = found['memory'] <= 0.5 and found['time'] <= 1
    return [row]


def require_equal_terms(
    runs: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]], tolerance: float = 1e-5
) -> dict[str, float]:
    """Refuse to time a term that is another one; returns the largest relative differences."""
    *ours, dense = (run() for run in runs.values())
    worst = {
        what: max(float((own[i] - dense[i]).norm() / dense[i].norm()) for own in ours)
        for i, what in enumerate(('value', 'gradient'))
    }
    if not all(gap < tolerance for gap in worst.values()):
        raise SystemExit(f'the terms differ: {worst}; nothing was timed')
    return worst


def compare_memories(args: argparse.Namespace) -> list[Row]:
    """Compare what the memory takes with a queue of float32 that is concatenated."""
    row: Row = {'pixels': CAPACITY, 'numbers of a pixel': WIDTH, 'pixels a step': BATCH}
    row.update({name: measure_apart('memory', name, args) for name in MEMORIES})
    ours = row['ours']
    row['reached'] = ours['held_mb'] <= GOAL_MB and ours['read_is_view'] and ours['read_mb'] < 1
    return [row]


def measure_memory(variant: str) -> Row:
    """Fill a memory in this process, read all of it, read a step's share of it, store a batch.

    Returns:
        Megabytes (10^6 bytes) that the process holds for the full memory, and those by which it
        rose above that while it read and wrote.
    """
    store = OwnMemory() if variant == 'ours' else ConcatenatedMemory()
    batches = [make_rows(WIDTH, BATCH, first) for first in range(2)]
    for rows, about in batches:  # what a first call loads is no memory of the pixels
        store.push(rows, about)
    filling = measure_peak(lambda: [store.push(*batches[i % 2]) for i in range(CAPACITY // BATCH)])
    read, write = measure_peak(store.read), measure_peak(lambda: store.push(*batches[0]))
    mb = 2**20 / 1e6
    return {
        'held_mb': round(store.size() / 1e6, 1),
        'peak_while_filling_mb': round(filling['peak_mb'] * mb, 1),
        'read_mb': round(read['peak_mb'] * mb, 1),
        'write_mb': round(write['peak_mb'] * mb, 1),
        'read_is_view': store.reads_views(),
    }


class OwnMemory:
    """The memory of the suite."""

    def __init__(self) -> None:
        from isda_suite.methods.iuq import PixelMemory

        self.every = PixelMemory(rows_per_step=None)
        self.push = self.every.push

    def read(self) -> list[Any]:
        """Read everything, then what a step reads."""
        self.every.rows_per_step = None
        found = [self.every.read()]
        self.every.rows_per_step = 16_384
        return [*found, self.every.read()]

    def size(self) -> int:
        """Return the bytes of its tensors."""
        held = [self.every.bank, self.every.about]
        return sum(one.numel() * one.element_size() for one in held if one is not None)

    def reads_views(self) -> bool:
        """Tell whether what is read lies in the bank itself, the whole of it from its start."""
        bank = self.every.bank
        assert bank is not None
        start, end = bank.data_ptr(), bank.data_ptr() + bank.numel() * bank.element_size()
        found = [stored.rows.data_ptr() for stored in self.read()]
        return found[0] == start and all(start <= at < end for at in found)


class ConcatenatedMemory:
    """What one writes down first: a queue in float32, concatenated and cut; a random read."""

    def __init__(self) -> None:
        self.rows, self.about = torch.zeros(0, WIDTH), torch.zeros(0, 3, dtype=torch.long)

    def push(self, rows: torch.Tensor, about: torch.Tensor) -> None:
        """Append rows and forget the oldest."""
        self.rows = torch.cat([self.rows, rows])[-CAPACITY:].clone()
        self.about = torch.cat([self.about, about])[-CAPACITY:].clone()

    def read(self) -> list[torch.Tensor]:
        """Take random rows."""
        return [self.rows[torch.randperm(len(self.rows))[:16_384]]]

    def size(self) -> int:
        """Return the bytes of its tensors."""
        return sum(one.numel() * one.element_size() for one in (self.rows, self.about))

    def reads_views(self) -> bool:
        """Tell whether what is read is the queue itself."""
        return self.read()[0].untyped_storage().data_ptr() == self.rows.data_ptr()


def measure_apart(case: str, variant: str, args: argparse.Namespace) -> Row:
    """Measure memory in a fresh process."""
    given = {'case': case, 'peak-of': variant, 'threads': args.threads}
    return in_own_process(__file__, given)


def print_peak(args: argparse.Namespace) -> None:
    """Print what is measured in a process of its own."""
    if args.case == 'memory':
        print(json.dumps(measure_memory(args.peak_of)))
        return
    rows = make_rows(WIDTH)[0].half()
    run = make_uniqueness(args.peak_of, rows)
    make_uniqueness(args.peak_of, rows[:1000])()  # the libraries have what they keep
    print(json.dumps(measure_peak(run)))


CASES = {'step': compare_steps, 'memory': compare_memories, 'uniqueness': compare_uniqueness}


def main() -> None:
    """Measure one case and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=CASES, required=True)
    parser.add_argument('--model', choices=MODELS, default='solov2')
    parser.add_argument('--side', type=int, help='of the square images; default: as the model')
    parser.add_argument('--objects', type=int, default=8, help='of an image')
    add_arguments(parser, threads=1, rounds=5, runs='runs per variant that count')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # mmengine lists every parameter it initialises
    if args.peak_of:
        print_peak(args)
    else:
        report('IUQ', args, CASES[args.case])


if __name__ == '__main__':
    main()
