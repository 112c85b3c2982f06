"""Tiles against the whole picture, with networks whose receptive field is known."""

import itertools

import pytest
import torch
from torch import nn

from isda_suite.apis.large_images.tiling import Axis, BlendedTiles, _weights
from isda_suite.engine.errors import ConfigError


def network(radius=5, stride=4):
    """Return a network that sees `radius` cells around a cell of its logits."""
    torch.manual_seed(0)
    side = 2 * radius + 1
    return nn.Sequential(
        nn.Conv2d(3, 6, stride, stride), nn.ReLU(), nn.Conv2d(6, 4, side, padding=radius)
    ).requires_grad_(False)


def tiles_of(model, picture, tile, overlap, align=32):
    """Return tiles of a picture (1, 3, H, W), and the windows that were computed."""
    windows = []

    def run(window):
        top, left, height, width = window
        windows.append(window)
        part = picture[:, :, top : top + height, left : left + width]
        return model(part), (height, width)

    axes = [Axis.spread(side, tile, overlap, align) for side in picture.shape[2:]]
    return BlendedTiles(run, *axes, align), windows


@pytest.mark.parametrize('size', [(256, 256), (500, 300), (41, 700), (643, 129)])
def test_tiles_that_overlap_enough_give_the_logits_of_the_whole_picture(size):
    """The radius is 5 cells of 4 pixels; a quarter of the overlap is 24 pixels."""
    picture = torch.randn(1, 3, *size)
    model = network()
    tiles, windows = tiles_of(model, picture, tile=192, overlap=96)
    whole = model(picture)
    assert tiles.size_hw == tuple(whole.shape[2:])
    found = torch.cat([tiles.rows(y, y + 1).clone() for y in range(tiles.size_hw[0])], dim=2)
    assert torch.allclose(found, whole, atol=1e-5)
    assert len(windows) == len(set(windows)), 'no tile is computed twice'


def test_tiles_that_overlap_too_little_differ():
    picture = torch.randn(1, 3, 500, 500)
    model = network()
    tiles, _ = tiles_of(model, picture, tile=192, overlap=32)
    whole = model(picture)
    difference = (tiles.rows(0, tiles.size_hw[0]) - whole).abs().amax((0, 1))
    assert difference.max() > 0.01
    assert difference[:20, :20].max() < 1e-5, 'far from the other tiles'


def test_a_step_between_tiles_becomes_a_slope():
    """A network that sees the whole tile; here its answer is the place of the tile."""

    def run(window):
        return torch.full((1, 1, window[2] // 8, window[3] // 8), float(window[1])), window[2:]

    axes = (Axis.spread(128, 128, 0, 32), Axis.spread(1024, 256, 128, 32))
    row = BlendedTiles(run, *axes, 32).rows(0, 1)[0, 0, 0]
    steps = row.diff()
    step_between_tiles = 128
    assert row[0] == 0 and row[-1] == 768
    assert 0 <= steps.min() and steps.max() <= step_between_tiles / (16 / 2) + 1e-3


def test_one_strip_of_tiles_is_held_at_a_time():
    picture = torch.randn(1, 3, 2000, 200)
    tiles, windows = tiles_of(network(), picture, tile=128, overlap=64)
    held = 0
    for start in range(0, tiles.size_hw[0], 10):
        tiles.rows(start, min(start + 10, tiles.size_hw[0]))
        held = max(held, tiles._strip.shape[2])
    assert held <= (128 + 64) // 4 + 10
    assert len(windows) > 40


def test_weights_add_up_to_one_and_leave_edges_between_tiles_out():
    for length, tile, overlap in itertools.product((33, 700, 1000, 1333), (128, 256), (0, 32, 64)):
        axis = Axis.spread(length, tile, overlap, 32)
        total = torch.zeros(-(-length // 8))
        for index, (first, weights) in enumerate(_weights(axis, len(total), 8)):
            total[first : first + len(weights)] += weights
            assert index == 0 or overlap == 0 or weights[0] == 0
        assert torch.allclose(total, torch.ones_like(total))


def test_tiles_cover_a_side_at_aligned_places_with_the_least_overlap():
    for length, tile, overlap in itertools.product(range(1, 1500, 7), (64, 256), (0, 32)):
        axis = Axis.spread(length, tile, overlap, 32)
        assert axis.starts[0] == 0 and axis.stops[-1] == length
        assert all(start % 32 == 0 for start in axis.starts)
        sides = [b - a for a, b in zip(axis.starts, axis.stops, strict=True)]
        assert set(sides[:-1]) <= {tile} and sides[-1] < tile + 32
        common = [b - a for b, a in zip(axis.stops, axis.starts[1:], strict=False)]
        assert all(part >= overlap for part in common)


@pytest.mark.parametrize('stride', [5, 64])
def test_cells_that_do_not_fit_on_one_grid_are_refused(stride):
    model = network(0, stride)
    with pytest.raises(ConfigError, match='only logits for squares whose side divides 32'):
        tiles_of(model, torch.randn(1, 3, 500, 500), tile=320, overlap=32)
