"""Compare `fit` with the memory that trainings and tests of the samples then take, on the CPU.

Every run is a process of its own; its peak is what the kernel says of it when it has ended. Data is
loaded in the process itself, whose peak then is the whole.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from isda_suite.checkpoint.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[1]
# The states of the optimizer are there from the second step on.
STEPS = 3


class Case(NamedTuple):
    """A configuration, the format of the sample that it reads, and changes to it."""

    config: str
    data: str = 'coco'
    options: tuple[str, ...] = ()


CASES = (
    Case('isda_sample'),
    Case('isda_sample', options=('train_dataloader.batch_size=12',)),
    Case('idip_sample'),
    Case('isdnet_r18_sample', 'semantic'),
    Case('defvistr_sample', 'youtube_vis'),
)


def run(*words: Any, folder: Path) -> tuple[int, str]:
    """Run a program; return the peak of its memory in bytes and its output."""
    variables = {**os.environ, 'ISDA_MEMORY_ESTIMATE': '0', 'OMP_NUM_THREADS': '1'}
    variables['PYTHONPATH'] = str(ROOT)
    with (folder / 'output.txt').open('w+') as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f'{words} ended with {process.returncode}:\n{text[-3000:]}')
    return used.ru_maxrss * 1024, text


def compare(case: Case, folder: Path, training: bool) -> dict[str, Any]:
    """Estimate and measure one run.

    Args:
        case: What runs.
        folder: For the data and what the run writes.
        training: A training of a few steps, else a test of its weights.

    Returns:
        Bytes: ``estimated``, ``measured``; and ``ratio``.
    """
    data = folder / f'data_{case.data}'
    if not data.is_dir():
        words = ('--format', case.data, '--num-train', 24, '--num-val', 4)
        run(ROOT / 'tools/misc/write_sample.py', data, *words, folder=folder)
    options = [
        *case.options,
        f'data_root={data}/',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        f'train_cfg.max_iters={STEPS}',
        f'train_cfg.val_interval={STEPS + 1}',
    ]
    kind = '--train' if training else '--test'
    words = (case.config, kind, '--json', '--cfg-options', *options)
    _, text = run(ROOT / 'tools/fit.py', *words, folder=folder)
    estimated = json.loads(text[text.index('{\n') :])
    work_dir = folder / f'{case.config}_{len(case.options)}'
    if training:
        words = (case.config, '--work-dir', work_dir, '--seed', 0, '--cfg-options', *options)
        measured, _ = run(ROOT / 'tools/train.py', *words, folder=folder)
    else:
        words = (case.config, work_dir / f'iter_{STEPS}.pth', '--work-dir', work_dir / 'test')
        measured, _ = run(ROOT / 'tools/test.py', *words, '--cfg-options', *options, folder=folder)
    return {
        'config': case.config,
        'options': list(case.options),
        'run': 'training' if training else 'test',
        'estimated': estimated['total'],
        'parts': estimated,
        'measured': measured,
        'ratio': estimated['total'] / measured,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Write results as a table of Markdown."""
    lines = [
        '| configuration | run | estimated | measured | ratio |',
        '| --- | --- | --- | --- | --- |',
    ]
    for row in rows:
        name = ' '.join([f'`{row["config"]}`', *(f'`{one}`' for one in row['options'])])
        numbers = f'{row["estimated"] / 1e9:.2f} GB | {row["measured"] / 1e9:.2f} GB'
        lines.append(f'| {name} | {row["run"]} | {numbers} | {row["ratio"]:.2f} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure all cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='for data, checkpoints and the results')
    parser.add_argument('--only', help='one configuration')
    parser.add_argument(
        '--runs', nargs='+', choices=('training', 'test'), default=('training', 'test')
    )
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in CASES:
        if args.only in (None, case.config):
            for name in args.runs:
                rows.append(compare(case, args.folder.absolute(), name == 'training'))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    with write_atomically(args.folder / 'memory_estimate.json', text=True) as file:
        json.dump(rows, file, indent=1)
    print(table(rows))


if __name__ == '__main__':
    main()
