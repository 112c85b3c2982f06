"""Results as text: machine, what is missing, tables beside every anchor, goals."""

import os
import platform
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .cases import CASES, TRIALS
from .implementations import OURS, our_operators
from .measure import Row, Settings

_TITLES = {
    'ms_deform_attn': 'Deformable attention',
    'ms_deform_attn_fused': 'Deformable attention from offsets and logits',
    'deform_conv2d': 'Deformable convolution, 3x3',
}
_PACKAGES = ('torch', 'torchvision', 'onedl-mmcv', 'mmcv', 'transformers', 'deformops', 'triton')


def machine(settings: Settings) -> dict[str, Any]:
    """Describe what this ran on, with which versions."""
    about: dict[str, Any] = {'cpu': platform.processor()}
    if Path('/proc/cpuinfo').exists():
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        names = (line.split(':')[1].strip() for line in lines if line.startswith('model name'))
        about['cpu'] = next(names, about['cpu'])
    about |= {'cores': os.cpu_count(), 'load': [round(x, 1) for x in os.getloadavg()]}
    if settings.device == 'cuda':
        about['gpu'] = torch.cuda.get_device_name()
        about['cuda'] = torch.version.cuda
        about['kernels'] = our_operators().info()['ops']['ms_deform_attn']['cuda']
    else:
        about['variant'] = settings.isa or 'reference'
    about |= {'threads': settings.threads, 'dtype': settings.dtype}
    about['python'] = platform.python_version()
    for package in _PACKAGES:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    about['date'] = time.strftime('%Y-%m-%d')
    return about


def text(
    rows: Sequence[Row],
    about: dict[str, Any],
    missing: dict[str, str],
    goals: Sequence[dict[str, Any]],
) -> str:
    """Write everything as markdown."""
    lines = [
        '# Operators beside other implementations',
        '',
        ', '.join(f'{key} {value}' for key, value in about.items()),
        '',
        'Milliseconds of one call, batch 1 unless the case says otherwise: median (minimum) of',
        'calls in alternating blocks; CPU time for one thread on the CPU, wall time for more, time',
        'between events on a GPU. Ratios are the median of the other over ours. Memory is the peak',
        'beyond the operands, results included, in 10^6 bytes. `steady`: wall and CPU time of ours',
        'agreed within 5 %; where they did not, other programs used the machine.',
        '',
    ]
    for anchor, reason in missing.items():
        lines.append(f'* Missing: {anchor}: {reason}')
    shared = [row for row in rows if row['threads'] != about['threads']]
    rows = [row for row in rows if row['threads'] == about['threads']]
    for operator, title in _TITLES.items():
        chosen = [row for row in rows if _operator_of(row) == operator]
        if chosen:
            lines += ['', f'## {title}', '', *_table(chosen)]
    if shared:
        lines += ['', '## Two threads beside one', '', *_thread_table(shared)]
    lines += ['', '## Goals', '', *_goal_table(goals)]
    return '\n'.join(lines) + '\n'


def _operator_of(row: Row) -> str:
    return {**CASES, **TRIALS}[row['case']].operator


def _groups(rows: Sequence[Row]) -> Iterator[dict[str, Row]]:
    """Yield the rows of one measurement by implementation."""
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[k] for k in ('case', 'sampling', 'pass', 'threads', 'isa'))
        groups.setdefault(key, {})[row['implementation']] = row
    yield from groups.values()


def _table(rows: Sequence[Row]) -> list[str]:
    """Write the rows of one operator, a column for each implementation and each ratio."""
    anchors = list(dict.fromkeys(r['implementation'] for r in rows if r['implementation'] != OURS))
    main_isa = rows[0]['isa']
    head = ['case', 'sampling', 'pass', *anchors, OURS, *(f'{a} / ours' for a in anchors)]
    head += [*(f'MB {a}' for a in anchors if a != 'conv2d'), 'MB ours', 'limit', 'steady']
    lines = [_cells(head), _cells(['---'] * len(head))]
    for group in _groups(rows):
        ours = group[OURS]
        name = ours['case'] + (f', {ours["isa"]}' if ours['isa'] != main_isa else '')
        cells = [name, ours['sampling'], ours['pass']]
        cells += [_time(group.get(name)) for name in (*anchors, OURS)]
        cells += [_three_digits(ours['ratio'].get(anchor)) for anchor in anchors]
        for anchor in (*anchors, OURS):
            if anchor != 'conv2d':
                cells.append(_number(group.get(anchor, {}).get('peak_mb'), 0))
        cells.append(_three_digits(ours.get('limit_ms')))
        cells.append({True: 'yes', False: 'no', None: '-'}[ours['steady']])
        lines.append(_cells(cells))
    return lines


def _thread_table(rows: Sequence[Row]) -> list[str]:
    lines = [_cells(['case', 'pass', 'two threads, ms', 'one / two']), _cells(['---'] * 4)]
    for row in rows:
        (factor,) = row['ratio'].values()
        lines.append(_cells([row['case'], row['pass'], _time(row), _number(factor, 2)]))
    return lines


def _goal_table(goals: Sequence[dict[str, Any]]) -> list[str]:
    """Write the goals that were measured as rows, and name the others."""
    head = ['claim', 'measured', 'must', 'met', 'stretch', 'met', 'times the limit']
    lines = [_cells(head), _cells(['---'] * len(head))]
    words = {True: 'yes', False: '**no**', None: '-'}
    for goal in goals:
        if goal['measured'] is None:
            continue
        sign = 'at most ' if goal['at_most'] else ''
        limit = _number(goal['times_the_limit'])
        if goal['limit_by']:
            limit += f' ({goal["limit_by"]})'
        unsteady = ' (not steady)' if goal['steady'] is False else ''
        stretch = '-' if goal['stretch'] is None else f'{sign}{goal["stretch"]:.4g}'
        cells = [goal['claim'], f'{goal["measured"]:.3g}{unsteady}']
        cells += [f'{sign}{goal["must"]:g}', words[goal['must_met']]]
        cells += [stretch, words[goal['stretch_met']], limit]
        lines.append(_cells(cells))
    others = [goal['claim'] for goal in goals if goal['measured'] is None]
    return [*lines, '', f'Not measured: {"; ".join(others) or "none"}.']


def _cells(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _time(row: Row | None) -> str:
    return '-' if row is None else f'{row["median_ms"]:.4g} ({row["min_ms"]:.4g})'


def _three_digits(value: float | None) -> str:
    return '-' if value is None else f'{value:.3g}'


def _number(value: float | None, digits: int = 1) -> str:
    return '-' if value is None else f'{value:.{digits}f}'
