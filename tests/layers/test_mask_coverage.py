"""What masks cover of a feature map, against the mean of every cell."""

import pytest
import torch

from isda_suite.layers.mask_coverage import coverage_of


@pytest.mark.parametrize('kind', [torch.uint8, torch.bool, torch.int64])
@pytest.mark.parametrize('cell', [(1, 1), (4, 4), (8, 2), (16, 16), (300, 4)])
def test_a_cell_holds_the_share_of_its_pixels_also_where_all_are_covered(cell, kind):
    height, width = 2 * cell[0], 3 * cell[1]
    torch.manual_seed(0)
    masks = torch.stack(
        [torch.rand(height, width) < 0.5, torch.ones(height, width), torch.zeros(height, width)]
    ).to(kind)
    found = coverage_of(masks, (2, 3))
    for y in range(2):
        for x in range(3):
            part = masks[:, y * cell[0] : (y + 1) * cell[0], x * cell[1] : (x + 1) * cell[1]]
            assert torch.equal(found[:, y, x], part.double().mean((1, 2)).float())


def test_no_mask_covers_nothing():
    assert coverage_of(torch.zeros(0, 64, 32, dtype=torch.uint8), (16, 8)).shape == (0, 16, 8)
