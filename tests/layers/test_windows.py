"""Windows of maps: enlarged, kept in files, and how far networks look."""

import shutil
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.windows import (
    FileMap,
    Span,
    Window,
    enlarged,
    filled,
    reach_of,
    sources,
    split,
)

CPU = torch.device('cpu')


def window(top, bottom, left, right):
    return Window(Span(top, bottom), Span(left, right))


def test_a_map_comes_back_from_its_file_and_knows_its_mean():
    values = torch.randn(1, 5, 23, 31)
    found = filled((23, 31), 8, lambda part: part.cut(values, window(0, 23, 0, 31)), lambda: None)
    assert torch.equal(found.read(window(3, 20, 7, 31)), values[:, :, 3:20, 7:31])
    assert torch.equal(found.rows(22, 23), values[:, :, 22:])
    assert torch.allclose(found.mean, values.mean((2, 3), keepdim=True), atol=1e-6)


def test_windows_cover_each_cell_once_and_each_is_reported():
    seen, calls = torch.zeros(23, 31), []
    for part in split((23, 31), 8):
        part.cut(seen, window(0, 23, 0, 31)).add_(1)
    assert torch.equal(seen, torch.ones(23, 31))
    filled((23, 31), 8, lambda part: torch.zeros(1, 1, *part.size_hw), lambda: calls.append(1))
    assert len(calls) == 12


def test_a_full_disk_is_seen_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: types.SimpleNamespace(free=1 << 20))
    with pytest.raises(OSError, match='needs 38 MB, 1 MB are free: set TMPDIR'):
        FileMap(100, (100, 1000), CPU)


@pytest.mark.parametrize(
    ('source_hw', 'full_hw'),
    [((20, 30), (40, 60)), ((39, 77), (77, 153)), ((25, 19), (49, 38)), ((9, 9), (9, 31))],
)
def test_an_enlarged_window_is_that_of_the_enlarged_map(source_hw, full_hw):
    values = torch.randn(2, 3, *source_hw)
    whole = F.interpolate(values, full_hw, mode='bilinear')
    for wanted in split(full_hw, 7):
        part = sources(wanted, source_hw, full_hw)
        cells = part.cut(values, window(0, source_hw[0], 0, source_hw[1]))
        found = enlarged(cells, part, source_hw, wanted, full_hw)
        expected = wanted.cut(whole, window(0, full_hw[0], 0, full_hw[1]))
        # Places are rounded to float32, at 150 cells to some 1e-5.
        assert torch.allclose(found, expected, atol=3e-5)


def test_places_far_from_the_start_are_rounded_as_pytorch_rounds_them():
    values = torch.randn(1, 1, 20_001, 1)
    whole = F.interpolate(values, (40_001, 1), mode='bilinear')
    wanted = window(39_000, 40_001, 0, 1)
    part = sources(wanted, (20_001, 1), (40_001, 1))
    found = enlarged(values[:, :, slice(*part.rows)], part, (20_001, 1), wanted, (40_001, 1))
    assert (found - whole[:, :, 39_000:]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ('network', 'stride', 'reach'),
    [
        (nn.Conv2d(2, 3, 1), 1, 0),
        (nn.Conv2d(2, 3, 3, padding=36, dilation=36), 1, 36),
        (nn.Conv2d(2, 3, (1, 5), padding=(0, 2)), 1, 2),
        (nn.Conv2d(2, 3, (5, 1), padding=(2, 0)), 1, 2),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), 2, 1),
        (nn.Sequential(nn.Conv2d(2, 3, 7, 4, 3), nn.ReLU(), nn.Conv2d(3, 3, 3, 2, 1)), 8, 1),
    ],
)
def test_how_far_a_network_looks_is_measured_in_both_directions(network, stride, reach):
    assert reach_of(network.requires_grad_(False), 2, stride, CPU) == reach


def test_a_network_that_sees_everything_has_no_reach():
    with pytest.raises(ModelConfigError, match='has no exact mode'):
        reach_of(lambda values: values + values.mean(), 2, 1, CPU)
