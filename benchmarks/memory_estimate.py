"""Compare `fit` with the memory that trainings and tests then take, on the CPU.

    python benchmarks/memory_estimate.py FOLDER --out benchmarks/results/memory_estimate

Every run is a process of its own, one at a time, on one thread. FOLDER keeps the data, the
checkpoints and what was measured: what is there already is not run again.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

# What the benchmarks share lies beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.memory_cases import CASES, Case, write_case
from benchmarks.memory_watch import ROOT, run_watched
from isda_suite.checkpoint.atomic import write_atomically

RUNS = ('train', 'test')


def compare(case: Case, folder: Path, run: str, kept: dict[str, Any] | None = None) -> Any:
    """Estimate and measure one run.

    Args:
        case: What runs.
        folder: For the data and what the run writes.
        run: ``train``, a training of a few steps; ``test``, a test of its weights.
        kept: What is known of it, by ``parts`` and ``measured``.

    Returns:
        Bytes: the estimated ``parts``, their ``total`` among them, and ``measured``.
    """
    kept = dict(kept or {})
    path, work_dir = _prepare(case, folder), folder / 'runs' / case.name
    file = work_dir / f'iter_{case.steps}.pth'
    if 'measured' not in kept:
        if run == 'train':
            words = [ROOT / 'tools/train.py', path, '--work-dir', work_dir, '--seed', 0]
        else:
            words = [ROOT / 'tools/test.py', path, file, '--work-dir', work_dir / 'test']
        kept['measured'], _ = run_watched(*words, folder=folder)
    if 'parts' not in kept:
        more = [] if run == 'train' else ['--checkpoint', file]
        words = [ROOT / 'tools/fit.py', path, f'--{run}', '--json', *more]
        _, text = run_watched(*words, folder=folder)
        found = json.loads(text[text.index('{\n') :])
        kept['parts'] = {name: found[name] for name in found if name not in ('available', 'fits')}
    return kept


def _prepare(case: Case, folder: Path) -> Path:
    """Write the data and the configuration of a case; return the latter."""
    data = folder / f'data_{case.data}'
    if not data.is_dir():
        words = ('--format', case.data, '--num-train', 24, '--num-val', 4)
        run_watched(ROOT / 'tools/misc/write_sample.py', data, *words, folder=folder)
    path = folder / 'cases' / f'{case.name}.py'
    path.parent.mkdir(exist_ok=True)
    write_case(case, data, path)
    return path


def ratio(row: dict[str, Any]) -> float:
    """Return estimated over measured."""
    return float(row['parts']['total'] / row['measured'])


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Write results as a table of Markdown.

    Args:
        rows: By name of the case and run, as in the file of results.
    """
    lines = [
        '| configuration | images | batch | workers | run | estimated | measured | ratio |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for case in CASES:
        for run in RUNS:
            row = rows.get(f'{case.name} {run}', {})
            if 'parts' not in row or 'measured' not in row:
                continue
            size = 'of the sample' if case.size_hw is None else '{} x {}'.format(*case.size_hw)
            facts = f'`{case.config}` | {size} | {row["batch"]} | {case.workers} | {run}'
            sizes = f'{row["parts"]["total"] / 1e9:.2f} GB | {row["measured"] / 1e9:.2f} GB'
            lines.append(f'| {facts} | {sizes} | {ratio(row):.2f} |')
    return '\n'.join(lines)


def batch_of(case: Case, run: str) -> int:
    """Return how many images or clips a step of a case has."""
    from isda_suite.engine.config_file import read_config

    return int(
        case.batch_size or read_config(case.config)[f'{run}_dataloader'].get('batch_size', 1)
    )


def report(rows: dict[str, dict[str, Any]], stem: Path) -> None:
    """Write the results as JSON and the table with what it was measured on."""
    import torch

    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        import mmdet
        import mmengine

    facts = {
        'machine': f'{platform.machine()}, {os.cpu_count()} cores shared with other work',
        'threads': 1,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'mmdet': mmdet.__version__,
        'libc': ' '.join(platform.libc_ver()),
        'date': time.strftime('%Y-%m-%d'),
    }
    words = ', '.join(f'{name} {value}' for name, value in facts.items())
    with write_atomically(stem.with_suffix('.json'), text=True) as file:
        json.dump({**facts, 'rows': rows}, file, indent=1)
    with write_atomically(stem.with_suffix('.md'), text=True) as file:
        file.write(f'# Estimated and measured memory\n\n{words}.\n\n{table(rows)}\n')


def main() -> None:
    """Measure all cases and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='for data, checkpoints and the results')
    parser.add_argument('--only', help='cases whose name begins so')
    parser.add_argument('--runs', nargs='+', choices=RUNS, default=RUNS)
    parser.add_argument('--again', action='store_true', help='estimate again what was estimated')
    parser.add_argument('--out', type=Path, help='files without suffix: .json and .md')
    args = parser.parse_args()
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / 'memory_estimate.json'
    rows = json.loads(kept.read_text()) if kept.is_file() else {}
    for case in CASES:
        for run in args.runs if case.name.startswith(args.only or '') else ():
            row = dict(rows.get(f'{case.name} {run}', {}))
            if args.again:
                row.pop('parts', None)
            row = compare(case, folder, run, row)
            rows[f'{case.name} {run}'] = {**row, 'batch': batch_of(case, run)}
            with write_atomically(kept, text=True) as file:
                json.dump(rows, file, indent=1)
            print(f'{case.name} {run}: {ratio(row):.2f}', flush=True)
    print(table(rows))
    if args.out:
        report(rows, args.out)


if __name__ == '__main__':
    main()
