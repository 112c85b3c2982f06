"""Curves of what runs have logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colours import class_colours

Array = NDArray[Any]
_COLUMNS = 3
_LINES = ('-', '--', ':', '-.')


@dataclass(frozen=True)
class Curve:
    """Values of one key of one run.

    Args:
        run: Name of the run.
        key: Name of the value.
        steps: (N,), ascending.
        values: (N,).
    """

    run: str
    key: str
    steps: Array
    values: Array


def smoothed(values: Array, weight: float) -> Array:
    """Return exponential moving averages, started without bias, as TensorBoard shows them.

    Args:
        values: (N,); what is not finite is left out of the averages.
        weight: Of what came before, 0 (no smoothing) up to below 1.
    """
    if not weight:
        return values
    found = np.empty(len(values))
    mean, total = 0.0, 0.0
    for index, value in enumerate(values):
        if np.isfinite(value):
            mean = weight * mean + (1 - weight) * value
            total = weight * total + 1 - weight
        found[index] = mean / total if total else np.nan
    return found


def draw_curves(
    curves: Sequence[Curve], path: str | Path, smoothing: float = 0.0, log_scale: bool = False
) -> None:
    """Draw one chart for each key, the runs in colours, and write the picture.

    Args:
        curves: What to draw.
        path: File of any format matplotlib writes: .png, .svg, .pdf.
        smoothing: See :func:`smoothed`; the values themselves stay visible behind.
        log_scale: Whether values are on a logarithmic axis.

    Raises:
        ValueError: if there is nothing to draw, or for an unknown format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError('there is nothing to draw')
    keys = list(dict.fromkeys(curve.key for curve in curves))
    runs = list(dict.fromkeys(curve.run for curve in curves))
    columns = min(_COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(5.6 * columns, 3.6 * rows), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    for place, key in enumerate(keys):
        axes = figure.add_subplot(rows, columns, place + 1)
        for curve in curves:
            if curve.key == key:
                _draw(axes, curve, runs.index(curve.run), smoothing)
        axes.set_title(_plain(key), fontsize=11)
        axes.set_xlabel('step')
        axes.grid(alpha=0.3)
        if log_scale:
            axes.set_yscale('log')
        if place == 0:
            axes.legend(fontsize=8)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.part-{path.name}')
    try:
        # Without a date, equal curves make equal files.
        extra: dict[str, Any] = {'metadata': {'Date': None}} if path.suffix == '.svg' else {}
        figure.savefig(part, format=path.suffix.lstrip('.') or 'png', **extra)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _draw(axes: Any, curve: Curve, run: int, smoothing: float) -> None:
    colour = [channel / 255 for channel in class_colours(run + 1)[run]]
    values = smoothed(curve.values, smoothing)
    few = {'marker': 'o', 'ms': 3} if len(values) < 30 else {}
    if smoothing:
        axes.plot(curve.steps, curve.values, lw=0.8, alpha=0.25, color=colour)
    style = _LINES[run % len(_LINES)]
    axes.plot(curve.steps, values, style, lw=1.6, color=colour, label=_plain(curve.run), **few)


def _plain(text: str) -> str:
    return text.replace('$', r'\$')
