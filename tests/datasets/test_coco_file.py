"""Reading RLE lengths and matching category names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from isda_suite.datasets.coco_checks import leaves_root
from isda_suite.datasets.coco_file import category_problems, labels_by_name, rle_length


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**31), st.floats(0, 1))
def test_compressed_counts_cover_the_mask(size_hw, seed, share):
    mask = np.random.default_rng(seed).random(size_hw) < share
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert rle_length(rle['counts']) == mask.size
    assert rle_length(rle['counts'].decode()) == mask.size


def test_long_runs_are_read():
    rle = coco_mask.encode(np.zeros((3000, 4000), dtype=np.uint8, order='F'))
    assert rle_length(rle['counts']) == 12_000_000


@pytest.mark.parametrize('counts', [[5, -5], 'O'])
def test_negative_runs_are_an_error(counts):
    with pytest.raises(ValueError, match='negative'):
        rle_length(counts)


def test_names_decide_about_labels():
    categories = [{'id': 7, 'name': 'b'}, {'id': 3, 'name': 'a'}, {'id': 5, 'name': 'c'}]
    assert labels_by_name(categories, ('a', 'b')) == {3: 0, 7: 1}
    (problem,) = category_problems(categories, ('a', 'd'))
    assert "'d'" in problem
    assert category_problems([{'id': 1}], None)[0].startswith('category without id or name')


@pytest.mark.parametrize(
    ('name', 'prefix', 'root', 'leaves'),
    [
        ('a.jpg', 'data/x/train/', 'data/x', False),
        ('../val/a.jpg', 'data/x/train/', 'data/x', False),
        ('../../a.jpg', 'data/x/train/', 'data/x', True),
        ('/abs/a.jpg', 'data/x/train/', 'data/x', True),
        ('a.jpg', '', '', False),
        ('../a.jpg', '', '', True),
        ('../b/a.jpg', 'data/x', '', True),
    ],
)
def test_names_that_lead_out_of_the_root(name, prefix, root, leaves):
    assert leaves_root(name, prefix, root) is leaves
