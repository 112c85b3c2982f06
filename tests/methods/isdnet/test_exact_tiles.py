"""Logits in windows are those of one pass: odd sizes, every way to reduce, a reducer."""

import pytest
import torch

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.isdnet.exact_tiles import ExactTiles
from tests.methods.isdnet.build import lively_isdnet

# Wider than what is computed around a window, so that windows do not see the whole image.
SIZES = [(896, 768), (903, 771), (770, 905)]


def lively(**changes):
    # Dilations of the published network would need an image of 3000 pixels.
    return lively_isdnet(**{'decode_head.dilations': (1, 2, 3), **changes})


@pytest.fixture(scope='module')
def model():
    return lively()


def logits_of(tiles, image, tile, done=lambda: None):
    def read(window):
        return image[..., slice(*window.rows), slice(*window.columns)]

    found = tiles.logits(read, tuple(image.shape[2:]), tile, done)
    return found.rows(0, found.size_hw[0])


def one_pass(model, image):
    with torch.no_grad():
        return model.class_logits(image)


def difference(model, image, tile=128, tiles=None):
    expected = one_pass(model, image)
    found = logits_of(tiles or ExactTiles(model), image, tile)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize('size_hw', SIZES)
def test_the_logits_of_one_pass(model, size_hw):
    torch.manual_seed(1)
    assert difference(model, torch.randn(1, 3, *size_hw)) < 1e-5


@pytest.mark.parametrize('part', ['_deep_reach', '_head_reach', '_shallow_reach'])
def test_less_around_the_windows_shows(model, part):
    tiles = ExactTiles(model)
    setattr(tiles, part, getattr(tiles, part) // 4)
    assert difference(model, torch.randn(1, 3, *SIZES[0]), tiles=tiles) > 1e-4


@pytest.mark.parametrize('sampling', ['bilinear', 'area', 'pyramid'])
def test_every_way_to_reduce_the_image(sampling):
    model = lively(deep_sampling=sampling)
    assert difference(model, torch.randn(1, 3, *SIZES[0])) < 1e-5
    if sampling == 'pyramid':
        assert difference(model, torch.randn(1, 3, *SIZES[1])) < 1e-5
    else:
        with pytest.raises(ModelConfigError, match='need sides that 4 divides, got 903 x 771'):
            difference(model, torch.randn(1, 3, *SIZES[1]))


def test_a_reduced_deep_feature():
    model = lively(**{'decode_head.channels': 48, 'refine_head.deep_channels': 48})
    assert difference(model, torch.randn(1, 3, *SIZES[0])) < 1e-5


def test_an_image_smaller_than_a_window(model):
    assert difference(model, torch.randn(1, 3, 65, 90), tile=256) < 1e-5


def test_windows_are_counted_before_they_are_computed(model):
    tiles, calls = ExactTiles(model), []
    logits_of(tiles, torch.randn(1, 3, 300, 450), 128, lambda: calls.append(1))
    assert len(calls) == tiles.num_windows((300, 450), 128) == 7 * 3 * 4


def test_other_heads_and_the_literal_pyramid_are_refused():
    with pytest.raises(ModelConfigError, match="odd_sides: exact tiles are for 'crop'"):
        ExactTiles(lively(odd_sides='nearest'))
    model = lively()
    model.decode_head = model.auxiliary_head
    with pytest.raises(ModelConfigError, match='exact tiles are for ASPPHead, got FCNHead'):
        ExactTiles(model)
