"""Against F.interpolate on the whole map, bit for bit."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from isda_suite.layers.enlarged_rows import (
    CroppedRows,
    EnlargedRows,
    TensorRows,
    argmax,
    argmax_blocks,
    enlarged_argmax,
)
from tests.tools.running import environment


def interpolated(logits, *sizes):
    for size in sizes:
        logits = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    return logits


def rows_of(source, block_rows):
    height = source.size_hw[0]
    starts = range(0, height, block_rows)
    return torch.cat([source.rows(s, min(s + block_rows, height)) for s in starts], dim=2)


SIZES = [
    ((20, 30), (160, 240)),  # a whole factor
    ((77, 77), (612, 611)),
    ((125, 40), (1007, 333)),
    ((490, 33), (612, 377)),  # two rows of the result in the first of the source
    ((33, 200), (21, 150)),  # smaller
    ((90, 20), (25, 140)),  # so small that no row of the result needs row 0 of the source
    ((13, 9), (101, 70)),  # narrow
    ((9, 9), (60, 60)),  # small altogether
    ((1, 40), (9, 330)),
    ((2, 40), (3, 330)),
    ((40, 40), (40, 330)),
    ((40, 40), (330, 40)),
    ((40, 200), (330, 200)),
    ((400, 20), (3227, 160)),
]


@pytest.mark.parametrize(('small', 'large'), SIZES)
def test_rows_are_those_of_the_whole_bit_for_bit(small, large):
    logits = torch.randn(2, 3, *small, generator=torch.Generator().manual_seed(0))
    found = rows_of(EnlargedRows(TensorRows(logits), large), block_rows=37)
    assert torch.equal(found, interpolated(logits, large))


@pytest.mark.parametrize('block_rows', [1, 64, 10_000])
def test_two_steps_give_the_classes_of_two_steps(block_rows):
    logits = torch.randn(1, 7, 63, 50, generator=torch.Generator().manual_seed(1))
    sizes = [(500, 397), (625, 496)]
    found = enlarged_argmax(logits, sizes, block_rows)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), interpolated(logits, *sizes).argmax(1))
    in_one_step = interpolated(logits, sizes[-1]).argmax(1)
    assert not torch.equal(found.long(), in_one_step)


def test_ties_go_where_argmax_lets_them_go():
    logits = torch.randint(0, 2, (1, 5, 30, 40), generator=torch.Generator().manual_seed(2)).float()
    whole = interpolated(logits, (240, 320))
    two_best = whole.topk(2, dim=1).values
    assert (two_best[:, 0] == two_best[:, 1]).float().mean() > 0.1
    assert torch.equal(enlarged_argmax(logits, [(240, 320)]).long(), whole.argmax(1))


def test_padding_is_cut_between_the_steps():
    logits = torch.randn(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    padded = EnlargedRows(TensorRows(logits), (160, 192))
    found = argmax(EnlargedRows(CroppedRows(padded, (150, 181)), (200, 240)))
    kept = interpolated(logits, (160, 192))[:, :, :150, :181]
    assert torch.equal(found.long(), interpolated(kept, (200, 240)).argmax(1))


def test_other_layouts_and_precisions_are_computed_as_contiguous_float32():
    logits = torch.randn(1, 8, 20, 30, generator=torch.Generator().manual_seed(4)).half()
    expected = interpolated(logits.float(), (160, 240)).argmax(1)
    other = logits.contiguous(memory_format=torch.channels_last)
    assert torch.equal(enlarged_argmax(other, [(160, 240)]).long(), expected)


def test_many_classes_need_more_than_a_byte():
    logits = torch.randn(1, 300, 4, 5)
    found = enlarged_argmax(logits, [(16, 140)])
    assert found.dtype == torch.int64
    assert torch.equal(found, interpolated(logits, (16, 140)).argmax(1))


def test_blocks_come_from_top_to_bottom_and_cover_every_row():
    blocks = list(argmax_blocks(TensorRows(torch.randn(1, 2, 150, 6)), 64))
    assert [(start, len(block[0])) for start, block in blocks] == [(0, 64), (64, 64), (128, 22)]


MEASURE = """
import torch
from isda_suite.engine.memory import peak_of
from isda_suite.layers.enlarged_rows import enlarged_argmax
logits = torch.randn(1, 7, 313, 313)
resize = torch.nn.functional.interpolate
enlarged_argmax(logits[..., :20, :20], [(160, 160)])
_, rows = peak_of(lambda: enlarged_argmax(logits, [(2500, 2500)]))
_, whole = peak_of(lambda: resize(logits, (2500, 2500), mode='bilinear').argmax(1))
print(rows / 1e6, whole / 1e6)
"""


def test_float_maps_of_full_size_never_exist():
    """7 classes at 2500 x 2500: 175 MB of floats, and 50 MB of int64 classes."""
    done = subprocess.run(
        [sys.executable, '-c', MEASURE],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    rows, whole = map(float, done.stdout.split()[-2:])
    assert rows < 40 < 200 < whole
