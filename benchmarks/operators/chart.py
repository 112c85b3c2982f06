"""Results as a bar chart, with what the hardware allows drawn in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .implementations import OURS
from .measure import Row

_COLOURS = {
    OURS: '#0b6e4f',
    f'{OURS}_unfused': '#74c69d',
    'mmcv': '#5f6caf',
    'torchvision': '#e07a5f',
    'transformers': '#a8b2e0',
    'deformops': '#d4a017',
    'deformops_triton': '#d4a017',
    'deformops_cuda': '#f0d48a',
    'conv2d': '#9aa0a6',
}


def draw(rows: Sequence[Row], about: dict[str, Any], stem: Path) -> None:
    """Write ``stem``.png and .svg: milliseconds of every case, forward and with backward.

    Raises:
        ImportError: without matplotlib.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    # The same results give the same file.
    plt.rcParams['svg.hashsalt'] = 'isda_suite'
    plt.rcParams['svg.fonttype'] = 'none'  # text as text, half the size
    shown = [r for r in rows if r['sampling'] == 'local' and r['isa'] == rows[0]['isa']]
    shown = [r for r in shown if r['threads'] == rows[0]['threads']]
    names = [n for n in _COLOURS if any(r['implementation'] == n for r in shown)]
    cases = list(dict.fromkeys(r['case'] for r in shown))
    bars = sum(len({r['implementation'] for r in shown if r['case'] == c}) + 1 for c in cases)
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(12, 1.8 + 0.21 * bars))
    for axis, passes in zip(axes, ('fwd', 'fwd+bwd'), strict=True):
        _draw_pass(axis, [r for r in shown if r['pass'] == passes], cases)
        title = {'fwd': 'forward', 'fwd+bwd': 'forward and backward'}[passes]
        axis.set_title(title, loc='left')
        axis.set_xlabel('milliseconds of one call, logarithmic')
    handles = [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[name]) for name in names]
    labels = [*names]
    if any('limit_ms' in r for r in shown):
        handles.append(plt.Line2D([], [], color='black', linewidth=2))
        labels.append('limit of the hardware')
    columns = min(len(labels), 5)  # more are wider than the figure
    figure.legend(handles, labels, loc='lower center', ncols=columns, frameon=False)
    device = about.get('gpu') or f'{about["cpu"]}, threads {about["threads"]}'
    figure.suptitle(f'{device}, {about["dtype"]}, local sampling', x=0.01, ha='left')
    figure.tight_layout(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    for ending in ('.png', '.svg'):
        metadata = {'Date': None} if ending == '.svg' else {'Software': None}
        figure.savefig(stem.with_suffix(ending), dpi=90, metadata=metadata)
    plt.close(figure)


def _draw_pass(axis: Any, rows: Sequence[Row], cases: Sequence[str]) -> None:
    """Draw one panel, the cases from top to bottom."""
    position, ticks = 0.0, []
    for case in cases:
        group = [r for r in rows if r['case'] == case]
        group.sort(key=lambda r: list(_COLOURS).index(r['implementation']))
        places = [position - index for index in range(len(group))]
        for place, row in zip(places, group, strict=True):
            time = row['median_ms']
            axis.barh(place, time, height=0.9, color=_COLOURS[row['implementation']])
            label = f' {time:.0f}' if time >= 100 else f' {time:.3g}'
            if OURS in row['ratio'] and row['implementation'] != OURS:
                label += f' ({1 / row["ratio"][OURS]:.3g} x)'
            axis.text(time, place, label, va='center', fontsize=7)
        limit = next((r['limit_ms'] for r in group if 'limit_ms' in r), None)
        if limit is not None:
            axis.plot([limit] * 2, [places[0] + 0.5, places[-1] - 0.5], color='black', lw=2)
        ticks.append(position - (len(group) - 1) / 2)
        position -= len(group) + 1
    axis.set_yticks(ticks, cases)
    axis.set_xscale('log')
    axis.margins(x=0.15, y=0.01)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
