"""Draw which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: With more classes no numbers fit into the cells.
_MAX_WITH_NUMBERS = 30
_GREY = '#e4e4e4'


def draw_confusion_matrix(
    matrix: Array,
    classes: Sequence[str],
    ious: Sequence[float] | None = None,
    title: str = '',
    unit: str = 'pixels',
) -> Array:
    """Draw a confusion matrix: in each row, what the pixels of a class were predicted as.

    K classes. A row is in percent of what is labelled as its class; it is grey without anything.

    Args:
        matrix: (K, K) counts: a row for each labelled class, a column for each predicted one.
        classes: Names of the classes.
        ious: IoU of each class, 0 to 1, written beside its row; ``None`` for no such column.
        title: Line above the matrix.
        unit: What is counted.

    Returns:
        RGB picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(24.0, max(4.0, 0.75 * count))
    # Not through pyplot, which keeps every figure until it is told to close it.
    figure = Figure(figsize=(side + 3.2, side + 1.4), dpi=110, layout='constrained')
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=_GREY)
    labelled = matrix.sum(axis=1, dtype=np.float64)
    with np.errstate(invalid='ignore'):
        percent = 100 * matrix / labelled[:, None]
        shares = 100 * labelled / labelled.sum()
    image = axes.imshow(percent, cmap='Blues', vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, shrink=0.6, label=f'% of the labelled {unit} of the class')
    axes.set_title(title.replace('$', r'\$'), fontsize=13, pad=12)
    size = min(11.0, 0.7 * 72 * side / count)  # in points: no higher than a row
    _write_names(axes, classes, shares, size, unit)
    if ious is not None:
        beside = axes.secondary_yaxis('right')
        beside.set_yticks(range(count), [_percent(iou) for iou in ious], fontsize=size)
        beside.set_ylabel('IoU, %', fontsize=12)
    if count <= _MAX_WITH_NUMBERS:
        _write_numbers(axes, percent)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _percent(share: float) -> str:
    return '-' if np.isnan(share) else f'{100 * share:.1f}'


def _write_names(axes: Any, classes: Sequence[str], shares: Array, size: float, unit: str) -> None:
    # matplotlib would set what stands between dollars as a formula.
    classes = [name.replace('$', r'\$') for name in classes]
    names = [f'{name}  {share:.1f} %' for name, share in zip(classes, shares, strict=True)]
    axes.set_xticks(range(len(names)), classes, rotation=45, ha='right', fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel('predicted', fontsize=12)
    axes.set_ylabel(f'labelled, and share of all labelled {unit}', fontsize=12)


def _write_numbers(axes: Any, percent: Array) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if np.isnan(value):
            continue
        colour = 'white' if value > 55 else '#777777' if value < 0.05 else 'black'
        weight = 'bold' if row == column else 'normal'
        text = '0' if value == 0 else f'{value:.1f}'
        axes.text(column, row, text, color=colour, weight=weight, ha='center', va='center')
