"""The pyramid with slices gives mmdet's maps, with the same weights."""

import pytest
import torch
from mmdet.models.necks import FPN

from isda_suite.layers.module_twins import with_children
from isda_suite.layers.open_pyramid import OpenPyramid


@pytest.mark.parametrize('extra', [False, 'on_output'])
@pytest.mark.parametrize('side', [5, 6])
def test_maps_are_those_of_mmdet(extra, side):
    torch.manual_seed(0)
    neck = FPN([4, 8], 16, num_outs=4, add_extra_convs=extra)
    feats = [torch.randn(1, 4, 2 * side, 2 * side), torch.randn(1, 8, side, side)]
    twin = OpenPyramid(neck)
    expected, found = neck(feats), twin(feats)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert neck.num_outs == 4
    assert {id(p) for p in twin.parameters()} == {id(p) for p in neck.parameters()}


def test_a_twin_has_the_children_given_and_leaves_the_original_alone():
    original = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    first = original[0]
    twin = with_children(original, **{'0': torch.nn.Identity()})
    assert isinstance(twin[0], torch.nn.Identity)
    assert original[0] is first
    assert twin[1] is original[1]
    with pytest.raises(KeyError, match='Sequential has no child 7'):
        with_children(original, **{'7': first})
