"""IDIP against numbers recorded from the original implementation.

Names, sizes, indices and tolerances come from the files; a part is run by the function of its name.
"""

import pytest

from tests.golden.files import golden_cases
from tests.golden.idip.diffusion import run_diffusion
from tests.golden.idip.loss import run_loss, run_train
from tests.golden.idip.model import run_full, run_head, run_post
from tests.golden.idip.pieces import run_pieces
from tests.golden.loader import check

RUNNERS = {
    'pieces': run_pieces,
    'diffusion': run_diffusion,
    'head': run_head,
    'full': run_full,
    'loss': run_loss,
    'train': run_train,
    'post': run_post,
}


@pytest.mark.parametrize(('golden', 'case'), golden_cases('idip_*.json'))
def test_part_equals_the_original(golden, case):
    """Every stored output of every case is within the file's tolerance."""
    result = RUNNERS[golden.std['part']](golden, case)
    for name, output in case.outputs.items():
        check(result[name], output)
