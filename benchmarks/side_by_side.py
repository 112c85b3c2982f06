"""What the benchmarks share: taking turns, peaks in processes of their own, results in one form.

A benchmark measures rows. A row holds facts (sizes, differences) and a dict for each variant and
for each comparison of two of them. Variants take turns in one process; the claim is the ratio of
the medians of processor time, which another process on the machine disturbs less than the clock.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Action = Callable[[], Any]
# What is said of a run above its tables, as far as it is known.
_ABOUT = ('threads', 'torch', 'python', 'machine', 'date', 'load')


def take_turns(
    actions: Mapping[str, Action], rounds: int, block: int = 1, warm_ups: int = 1
) -> dict[str, dict[str, float]]:
    """Time actions in turns.

    Args:
        actions: What is timed, by name.
        rounds: How often every action has its turn.
        block: Runs of a turn.
        warm_ups: Runs of every action before, which do not count.

    Returns:
        Of every action the medians and the least of its runs, in seconds.
    """
    wall: dict[str, list[float]] = {name: [] for name in actions}
    cpu: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        for _ in range(warm_ups):
            action()
    for _ in range(rounds):
        for name, action in actions.items():
            for _ in range(block):
                start = time.perf_counter(), time.process_time()
                action()
                wall[name].append(time.perf_counter() - start[0])
                cpu[name].append(time.process_time() - start[1])
    return {
        name: {
            'wall_median_s': round(statistics.median(wall[name]), 6),
            'cpu_median_s': round(statistics.median(cpu[name]), 6),
            'cpu_min_s': round(min(cpu[name]), 6),
        }
        for name in actions
    }


def ratios(ours: Mapping[str, float], rival: Mapping[str, float]) -> dict[str, float]:
    """Compare two variants: ours over the rival's, of what both were measured for."""
    keys = {'time': 'cpu_median_s', 'memory': 'peak_mb'}
    return {
        name: round(ours[key] / rival[key], 3)
        for name, key in keys.items()
        if key in ours and key in rival
    }


def measure_peak(action: Action) -> dict[str, float]:
    """Run something in this process and measure its peak of memory and its time.

    Returns:
        ``peak_mb`` above what the process held before, ``process_mb`` of all it held at the peak,
        and seconds of this one run.

    Raises:
        SystemExit: if the kernel does not tell the peak of a process.
    """
    from isda_suite.engine.memory import peak_of, used_memory

    peak_of(lambda: None)  # gives back what is free, so that what is held now is counted alone
    before = used_memory()
    start = time.perf_counter(), time.process_time()
    _, peak = peak_of(action)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    if peak is None or before is None:
        raise SystemExit('this kernel does not tell the peak of a process')
    sizes = {'peak_mb': peak / 2**20, 'process_mb': (before + peak) / 2**20}
    found = {**sizes, 'wall_s': wall, 'cpu_s': cpu}
    return {name: round(value, 1) for name, value in found.items()}


def in_own_process(
    script: str | Path, options: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> Row:
    """Run a script in a fresh process, whose memory nothing has touched.

    Args:
        script: Python file whose last line of output is a JSON object.
        options: Values of its options by name; several values as a list or tuple.
        env: Environment variables that are added.

    Returns:
        That object.
    """
    command = [sys.executable, str(script)]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else (value,)
        command += [f'--{name}', *map(str, values)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def add_arguments(parser: argparse.ArgumentParser, threads: int, rounds: int, runs: str) -> None:
    """Add the options that every benchmark has; ``runs`` says what a round is."""
    parser.add_argument('--threads', type=int, default=threads)
    parser.add_argument('--rounds', type=int, default=rounds, help=runs)
    parser.add_argument('--out', type=Path, help='JSON file for the result; its table beside it')
    parser.add_argument('--peak-of', help=argparse.SUPPRESS)


def report(
    title: str, args: argparse.Namespace, measure: Callable[[argparse.Namespace], list[Row]]
) -> None:
    """Measure the rows of a case, print them with what they were measured on, write them.

    Args:
        title: Of the table.
        args: ``case``, ``threads`` and ``out``, besides what the case takes.
        measure: Gives the rows.
    """
    before = os.getloadavg()
    content = {
        'case': args.case,
        'threads': args.threads,
        'torch': torch.__version__,
        'python': platform.python_version(),
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'date': time.strftime('%Y-%m-%d'),
        'rows': measure(args),
        'load': [round(before[0], 1), round(os.getloadavg()[0], 1)],
    }
    text = json.dumps(content, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')
        args.out.with_suffix('.md').write_text(as_markdown(title, content))


def as_markdown(title: str, content: Row) -> str:
    """Show rows as tables: one for each row with variants, else one for all."""
    about = ', '.join(f'{name} {content[name]}' for name in _ABOUT if name in content)
    lines = [f'# {title}: {content["case"]}', '', f'{about}.', '']
    lines += ['Claims are ratios of processor time: other work may have shared the machine.', '']
    plain = []
    for row in content['rows']:
        variants = {name: value for name, value in row.items() if isinstance(value, dict)}
        facts = {name: value for name, value in row.items() if name not in variants}
        if not variants:
            plain.append(facts)
            continue
        lines += [', '.join(f'{name} {_show(value)}' for name, value in facts.items()) + '.', '']
        for columns in {tuple(values): None for values in variants.values()}:
            chosen = {name: v for name, v in variants.items() if tuple(v) == columns}
            lines += _table([{'': name, **values} for name, values in chosen.items()])
    return '\n'.join(lines + (_table(plain) if plain else [])).rstrip() + '\n'


def _table(rows: list[Row]) -> list[str]:
    names = list(rows[0])
    shown = [[_show(row[name]) for name in names] for row in rows]
    return [f'| {" | ".join(line)} |' for line in (names, ['---'] * len(names), *shown)] + ['']


def _show(value: Any) -> str:
    small = isinstance(value, float) and 0 < abs(value) < 1e-3
    return f'{value:.2g}' if small else str(value)
