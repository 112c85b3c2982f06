"""Find golden files and their cases; the folder comes from ``ISDA_GOLDEN_DIR``."""

import os
from pathlib import Path

import pytest

from tests.golden.loader import load

GOLDEN_DIR = Path(
    os.environ.get('ISDA_GOLDEN_DIR', Path(__file__).resolve().parent.parent / 'data' / 'golden')
)


def golden_cases(pattern, parts=None):
    """Return pytest parameters (golden, case) of all files that match, e.g. ``isda_*.json``.

    ``parts`` keeps the files whose ``std`` part is among them. No file at all is a failure, not
    an empty test: a wrong folder must not look like success.
    """
    files = sorted(GOLDEN_DIR.glob(pattern))
    goldens = [load(path) for path in files]
    goldens = [golden for golden in goldens if parts is None or golden.std['part'] in parts]
    if not goldens:
        raise FileNotFoundError(f'no golden file {pattern} (parts {parts}) in {GOLDEN_DIR}')
    return [
        pytest.param(golden, case, id=f'{golden.name}-{name}', marks=pytest.mark.golden)
        for golden in goldens
        for name, case in golden.cases.items()
    ]
