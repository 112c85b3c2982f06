"""IUQ against numbers recorded from the published code.

Sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import pytest

from tests.golden.files import golden_cases
from tests.golden.iuq import condinst, losses, mask2former, solov2
from tests.golden.loader import check

RUNNERS = {**condinst.RUNNERS, **losses.RUNNERS, **mask2former.RUNNERS, **solov2.RUNNERS}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('iuq_*.json'))
def test_part_equals_the_original(golden, case):
    """Every stored output of every case is within the file's tolerance."""
    result = RUNNERS[golden.std['part']](golden, case)
    for name, output in case.outputs.items():
        check(result[name], output)
