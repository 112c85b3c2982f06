"""Read what runs have logged: the scalars that mmengine writes beside every log."""

import fnmatch
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.log_curves import Curve, draw_curves

FORMATS = ('.png', '.svg', '.pdf')
_FILE = 'scalars.json'
#: Written with every line, and no value of interest by themselves.
_COUNTERS = {'step', 'iter', 'epoch'}
_DEFAULT_KEYS = ('loss', '*mAP', '*mIoU')


def find_scalars(run: str | Path) -> list[Path]:
    """Return the files of a run, the oldest first; a run that was resumed has several.

    Args:
        run: The folder for logs, one of its folders with a date, or a ``scalars.json`` itself.

    Raises:
        FileNotFoundError: if there is none.
    """
    run = Path(run)
    if run.is_file():
        return [run]
    found = sorted(run.glob(f'*/vis_data/{_FILE}')) or sorted(run.glob(f'vis_data/{_FILE}'))
    found = found or sorted(run.glob(_FILE))
    if not found:
        raise FileNotFoundError(
            f'{run}: no {_FILE} here, in vis_data/ or in */vis_data/: name the folder for logs of '
            'a run (--work-dir of tools/train.py)'
        )
    return found


def read_scalars(paths: Sequence[Path]) -> dict[str, dict[float, float]]:
    """Return the values of a run by key and step; where a run was resumed, the later ones.

    Raises:
        DataError: if a line is no json object. A last line that was cut off is left out.
    """
    values: dict[str, dict[float, float]] = defaultdict(dict)
    for path in paths:
        for entry in _entries(path):
            step = entry.get('step', entry.get('iter'))
            if not isinstance(step, int | float):
                continue
            for key, value in entry.items():
                if key not in _COUNTERS and isinstance(value, int | float):
                    values[key][float(step)] = float(value)
    return dict(values)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is no log of scalars, but no text at all: {error}') from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if 1 < number == len(lines):
                return  # the run was killed, or is writing just now
            raise DataError(f'{path}, line {number} is no json: {error}') from error
        if not isinstance(entry, dict):
            raise DataError(f'{path}, line {number}: expected an object, got {str(entry)[:40]!r}')
        yield entry


def curves_of(
    runs: Sequence[str | Path], keys: Sequence[str] = (), names: Sequence[str] = ()
) -> list[Curve]:
    """Return the curves of some runs.

    Args:
        runs: As for :func:`find_scalars`.
        keys: Names or patterns (``loss*``, ``*mAP``); empty takes the loss and the main metrics.
        names: What the runs are called; empty takes the names of their folders.

    Raises:
        FileNotFoundError: if a run has no log.
        ConfigError: if a key is in no run, with those that are, or names are not as many as runs.
    """
    if names and len(names) != len(runs):
        raise ConfigError(f'--names: {len(names)} for {len(runs)} runs')
    read = [read_scalars(find_scalars(run)) for run in runs]
    known = list(dict.fromkeys(key for values in read for key in values))
    wanted: list[str] = []
    for pattern in keys or _DEFAULT_KEYS:
        found = [key for key in known if fnmatch.fnmatchcase(key, pattern)]
        if keys and not found:
            raise ConfigError(f'--keys {pattern}: logged are {", ".join(known)}')
        wanted += found
    if not wanted:
        raise ConfigError(f'no loss, mAP or mIoU is logged: use --keys with {", ".join(known)}')
    return [
        _curve(name, key, values[key])
        for key in dict.fromkeys(wanted)
        for name, values in zip(names or _names_of(runs), read, strict=True)
        if key in values
    ]


def _names_of(runs: Sequence[str | Path]) -> list[str]:
    names = []
    for run in map(Path, runs):
        parts = [part for part in run.absolute().parts if part not in ('vis_data', _FILE)]
        names.append(parts[-1])
    twice = {name for name in names if names.count(name) > 1}
    return [str(run) if name in twice else name for run, name in zip(runs, names, strict=True)]


def _curve(run: str, key: str, values: dict[float, float]) -> Curve:
    steps = sorted(values)
    return Curve(run, key, np.array(steps), np.array([values[step] for step in steps]))


def plot_logs(
    runs: Sequence[str | Path],
    out: str | Path,
    keys: Sequence[str] = (),
    names: Sequence[str] = (),
    smoothing: float = 0.0,
    log_scale: bool = False,
) -> list[Curve]:
    """Draw what runs have logged, a chart for each key; arguments as for :func:`curves_of`.

    Args:
        runs: See there.
        out: File that ends with .png, .svg or .pdf.
        keys: See there.
        names: See there.
        smoothing: Weight of the values before, 0 up to below 1.
        log_scale: Whether values are on a logarithmic axis.

    Returns:
        What was drawn.

    Raises:
        ConfigError: if an argument cannot work.
        DataError: if a log cannot be read.
    """
    if Path(out).suffix not in FORMATS:
        raise ConfigError(f'--out {out}: the file must end with one of {", ".join(FORMATS)}')
    if not 0 <= smoothing < 1 or not math.isfinite(smoothing):
        raise ConfigError(f'--smooth must be 0 or more and below 1, got {smoothing}')
    curves = curves_of(runs, keys, names)
    draw_curves(curves, out, smoothing, log_scale)
    return curves
