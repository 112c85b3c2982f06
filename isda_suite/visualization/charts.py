"""Charts of a test: precision over recall, what errors cost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colours import class_colours

Array = NDArray[Any]
#: More classes get no curve of their own.
_MAX_CURVES = 12
_SHOWN_IOUS = (0.5, 0.75, 0.9)


class Chart:
    """A figure that becomes a picture.

    Attributes:
        axes: matplotlib's axes to draw into.
        picture: (H, W, 3) uint8 RGB, when the block is left.
    """

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.picture: Array = np.zeros((1, 1, 3), np.uint8)


@contextmanager
def chart(width: float, height: float) -> Iterator[Chart]:
    """Make a chart of some inches; not through pyplot, which keeps every figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
    canvas: Any = FigureCanvasAgg(figure)
    found = Chart(figure.add_subplot())
    yield found
    canvas.draw()
    found.picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plain(text: str) -> str:
    """Return a text in which matplotlib finds no formula."""
    return text.replace('$', r'\$')


def draw_precision_recall(
    precision: Array, iou_thresholds: Sequence[float], classes: Sequence[str]
) -> Array:
    """Draw precision over recall: the mean of all classes, and few classes at IoU 0.5.

    Axes: T thresholds, R recall levels from 0 to 1, K classes.

    Args:
        precision: (T, R, K), nan for classes without annotations.
        iou_thresholds: (T,).
        classes: Names of the classes.

    Returns:
        RGB picture.
    """
    recalls = np.linspace(0, 1, precision.shape[1])
    known = ~np.isnan(precision[0, 0])
    with chart(6.4, 4.8) as drawn:
        axes = drawn.axes
        if known.any():
            if 1 < known.sum() <= _MAX_CURVES:
                colours = class_colours(len(classes))
                for label in np.flatnonzero(known).tolist():
                    colour = [channel / 255 for channel in colours[label]]
                    name = plain(f'{classes[label][:24]}, IoU 0.50')
                    axes.plot(recalls, precision[0, :, label], lw=1, color=colour, label=name)
            for style, value in zip(('-', '--', ':'), _SHOWN_IOUS, strict=True):
                place = int(np.argmin(abs(np.asarray(iou_thresholds) - value)))
                mean = precision[place][:, known].mean(1)
                name = f'all classes, IoU {value:.2f}: AP {100 * mean.mean():.1f}'
                axes.plot(recalls, mean, style, lw=2, color='black', label=name)
            axes.legend(fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel='recall', ylabel='precision')
        axes.grid(alpha=0.3)
    return drawn.picture


def draw_error_costs(costs: Mapping[str, float], counts: Mapping[str, int]) -> Array:
    """Draw how much average precision each kind of error costs.

    Args:
        costs: Kind of error to AP, 0 to 1; nan counts as nothing.
        counts: Kind of error to how many there are, where that is known.

    Returns:
        RGB picture.
    """
    names = list(costs)
    values = 100 * np.nan_to_num(np.array([costs[name] for name in names], dtype=float))
    with chart(6.4, 0.5 * len(names) + 1.2) as drawn:
        axes = drawn.axes
        places = np.arange(len(names))
        colours = ['#3b78c3' if name in counts else '#9aa7b5' for name in names]
        axes.barh(places, values, color=colours)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            number = f' ({counts[name]})' if name in counts else ''
            axes.text(max(value, 0), place, f' {value:.2f}{number}', va='center', fontsize=9)
        axes.set_xlim(min(0, values.min()), max(1.0, 1.25 * values.max()))
        axes.set_xlabel('AP at IoU 0.5 that would be gained without them (how many)')
    return drawn.picture
