"""Any size, one pass or tiles, against the model's own prediction."""

import types

import cv2
import numpy as np
import pytest
import torch

from isda_suite.apis.inference import predict
from isda_suite.apis.large_images.coarse_logits import CoarseLogits
from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings, TiledSegmenter
from isda_suite.apis.model import load_model
from isda_suite.engine.config_file import read_config
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.memory import used_memory
from tests.apis.tiny_models import write_config as write_tiny_config
from tests.engine.toy_segmentor import write_config
from tests.methods.isdnet.build import lively_isdnet

BINARY = "\nmodel['decode_head'].update(num_classes=2, out_channels=1, threshold=0.4, "
BINARY += "loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))"


def toy(folder, extra=''):
    torch.manual_seed(0)
    return load_model(read_config(write_config(folder, folder, extra)), device='cpu')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return toy(tmp_path_factory.mktemp('toy'))


@pytest.fixture(scope='module')
def image():
    small = np.random.default_rng(0).integers(0, 256, (21, 26, 3), np.uint8)
    return cv2.resize(small, (389, 313))


def predicted(model, image):
    return predict(model, image, progress=False)[0].pred_sem_seg.data[0].numpy()


def test_one_pass_gives_the_classes_of_the_model(model, image):
    found = TiledSegmenter(model).segment(image)
    assert found.dtype == np.uint8 and len(np.unique(found)) > 2
    assert np.array_equal(found, predicted(model, image))


@pytest.mark.parametrize(('tile', 'overlap'), [(128, 32), (64, 32), (256, None), (352, 64)])
@pytest.mark.parametrize('scale', [1.0, 0.8])
def test_tiles_of_a_network_that_sees_little_give_the_same_classes(
    model, image, tile, overlap, scale
):
    whole = TiledSegmenter(model, SegmentSettings(scale=scale)).segment(image)
    in_tiles = TiledSegmenter(model, SegmentSettings(scale=scale, tile=tile, overlap=overlap))
    assert np.array_equal(in_tiles.segment(image), whole)


def test_tiles_without_overlap_show_at_their_edges(model, image):
    whole = TiledSegmenter(model).segment(image)
    found = TiledSegmenter(model, SegmentSettings(tile=128, overlap=0)).segment(image)
    assert 0 < (found != whole).mean() < 0.05


def test_a_smaller_input_gives_other_classes_at_the_size_of_the_picture(model, image):
    whole = TiledSegmenter(model).segment(image)
    found = TiledSegmenter(model, SegmentSettings(scale=0.5)).segment(image)
    assert found.shape == whole.shape and 0 < (found != whole).mean() < 0.3


def test_one_logit_of_a_binary_segmentor_is_compared_with_its_threshold(tmp_path, image):
    binary = toy(tmp_path, BINARY)
    torch.nn.init.normal_(binary.decode_head.conv_seg.weight)
    logits = CoarseLogits(binary)._raw(CoarseLogits(binary)._prepare(image))
    binary.decode_head.conv_seg.bias.data -= logits.mean().item()
    found = TiledSegmenter(binary).segment(image)
    assert set(np.unique(found)) == {0, 1}
    assert np.mean(found != predicted(binary, image)) < 1e-4


def test_logits_are_taken_before_their_enlargement_only_if_nothing_else_happens(model, image):
    coarse, _ = CoarseLogits(model)(image[:64, :64])
    assert coarse.shape[2:] == (16, 16)
    plain = model.encode_decode
    try:
        model.encode_decode = lambda *args: -plain(*args)
        full, _ = CoarseLogits(model)(image[:64, :64])
        assert full.shape[2:] == (64, 64)
        found = TiledSegmenter(model, SegmentSettings(tile=96, overlap=32)).segment(image)
        assert np.array_equal(found, predicted(model, image))
    finally:
        del model.encode_decode


def test_a_segmentor_may_hand_out_its_coarse_logits_by_itself(model, image):
    try:
        model.class_logits = lambda inputs: torch.zeros(1, 7, 8, 8)
        assert CoarseLogits(model)(image[:64, :64])[0].shape[2:] == (8, 8)
    finally:
        del model.class_logits


def test_what_is_no_segmentor_is_refused(tmp_path):
    detector = load_model(write_tiny_config(tmp_path), device='cpu')
    with pytest.raises(ConfigError, match='SOLO is no segmentor of mmseg'):
        TiledSegmenter(detector)


def test_the_memory_allowed_decides_between_one_pass_and_tiles(model, monkeypatch):
    # Asked once: what a process holds changes from one question to the next.
    used = used_memory()
    monkeypatch.setattr('isda_suite.apis.large_images.tile_choice.used_memory', lambda: used)
    used_mb = used / 2**20
    picture = types.SimpleNamespace(size_hw=(3000, 3000))
    plenty = TiledSegmenter(model, SegmentSettings(memory_mb=int(used_mb) + 10_000))
    assert plenty.choose(picture).tile is None
    tight = TiledSegmenter(model, SegmentSettings(memory_mb=int(used_mb) + 400))
    choice = tight.choose(picture)
    assert choice.tile is not None and choice.estimate < 400 * 2**20
    assert tight.num_tiles(picture, choice) > 1
    too_little = TiledSegmenter(model, SegmentSettings(memory_mb=int(used_mb) - 100))
    with pytest.raises(ConfigError, match=r'allow more with memory_mb'):
        too_little.choose(picture)


@pytest.mark.parametrize(
    'wrong', [dict(scale=0), dict(scale=-1.0), dict(tile=0), dict(overlap=-1), dict(memory_mb=0)]
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SegmentSettings(**wrong)


def test_an_overlap_of_more_than_half_a_tile_is_refused(model, image):
    with pytest.raises(ConfigError, match='tiles of 128 pixels cannot overlap by 96'):
        TiledSegmenter(model, SegmentSettings(tile=128, overlap=70)).segment(image)


@pytest.mark.parametrize('scale', [1.0, 0.8])
def test_exact_tiles_give_the_classes_of_one_pass(scale):
    isdnet = lively_isdnet(**{'decode_head.dilations': (1, 2, 3)})
    small = np.random.default_rng(0).integers(0, 256, (27, 25, 3), np.uint8)
    large = cv2.resize(small, (811, 897))
    logits = CoarseLogits(isdnet)(large)[0]
    isdnet.refine_head.conv_seg.predict.bias.data -= logits.mean((0, 2, 3))
    whole, exact, plain = (
        TiledSegmenter(isdnet, SegmentSettings(scale=scale, **settings)).segment(large)
        for settings in (dict(), dict(tile=160, exact=True), dict(tile=160))
    )
    assert len(np.unique(whole)) == 3
    assert np.mean(exact != whole) < 1e-5  # ties
    assert np.mean(plain != whole) > 1e-3


def test_exact_tiles_are_chosen_by_the_memory_that_their_surroundings_take_too(monkeypatch):
    monkeypatch.setattr('isda_suite.apis.large_images.tile_choice.used_memory', lambda: 0)
    isdnet = lively_isdnet()
    picture = types.SimpleNamespace(size_hw=(9000, 9000))
    plain = TiledSegmenter(isdnet, SegmentSettings(memory_mb=400)).choose(picture)
    segmenter = TiledSegmenter(isdnet, SegmentSettings(memory_mb=400, exact=True))
    exact = segmenter.choose(picture)
    assert exact.exact and exact.tile < plain.tile and exact.estimate < 400 * 2**20
    assert segmenter.num_tiles(picture, exact) > 7
    with pytest.raises(ConfigError, match='allow more with memory_mb'):
        TiledSegmenter(isdnet, SegmentSettings(memory_mb=20, exact=True)).choose(picture)


def test_exact_tiles_are_refused_where_they_cannot_be(model):
    with pytest.raises(ConfigError, match='has no exact tiles, only ISDNet has'):
        TiledSegmenter(model, SegmentSettings(exact=True))
    with pytest.raises(ConfigError, match='leave overlap out'):
        SegmentSettings(exact=True, overlap=32)
    padded = lively_isdnet()
    padded.data_preprocessor.test_cfg = dict(size_divisor=32)
    with pytest.raises(ConfigError, match=r'are padded to .* without data_preprocessor\.test_cfg'):
        TiledSegmenter(padded, SegmentSettings(exact=True, tile=64)).segment(
            np.zeros((97, 97, 3), np.uint8)
        )
