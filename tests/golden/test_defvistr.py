"""DefVisTR and VisTR against numbers recorded from independent implementations.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import pytest

from tests.golden.defvistr import data, loss, metric, model
from tests.golden.files import golden_cases
from tests.golden.loader import check

RUNNERS = {**model.RUNNERS, **loss.RUNNERS, **data.RUNNERS, **metric.RUNNERS}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('defvistr_*.json'))
def test_part_equals_the_original(golden, case, tmp_path):
    """Every stored output of every case is within the file's tolerance."""
    results = RUNNERS[golden.std['part']](golden, case, tmp_path)
    for name, output in case.outputs.items():
        check(results[name], output)
