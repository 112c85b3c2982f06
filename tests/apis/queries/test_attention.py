"""Where queries look: what is recorded is what the attention computes, and it is drawn in place."""

import cv2
import numpy as np
import pytest
import torch

from isda_suite.apis.model import load_model
from isda_suite.apis.queries.attention import AttentionSettings, draw_attention, to_pixels, token_at
from isda_suite.apis.queries.attention_record import (
    SampledPoints,
    dense_weights,
    recorded,
    recorded_inputs,
)
from isda_suite.engine.errors import ConfigError
from isda_suite.methods.defvistr.attention import FusedAttention
from isda_suite.ops import MultiScaleDeformableAttention, ms_deform_attn
from isda_suite.visualization.attention import draw_points, draw_weights
from tests.apis.tiny_defvistr import load_defvistr, write_defvistr_config
from tests.apis.tiny_isda import write_isda_config
from tests.apis.video_files import moving_square, write_frames


@pytest.mark.parametrize('last', [2, 4])
@pytest.mark.parametrize('batch_first', [True, False])
def test_recorded_points_are_those_that_are_sampled(last, batch_first):
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(16, 2, 2, 3, dropout=0.0, batch_first=batch_first)
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    torch.nn.init.normal_(layer.attention_weights.weight)
    shapes = torch.tensor([[4, 5], [2, 3]])
    query, position, value = torch.randn(1, 7, 16), torch.randn(1, 7, 16), torch.randn(1, 26, 16)
    reference = torch.rand(1, 7, 2, last)
    inputs = [one if batch_first else one.transpose(0, 1) for one in (query, value, position)]
    starts = torch.tensor([0, 20])
    options = dict(reference_points=reference, spatial_shapes=shapes, level_start_index=starts)
    with recorded(layer) as found:
        result = layer(inputs[0], value=inputs[1], query_pos=inputs[2], **options)
    result = result if batch_first else result.transpose(0, 1)
    points = found.points
    projected = layer.value_proj(value).view(1, 26, 2, 8)
    sampled = ms_deform_attn(
        projected, shapes, starts, points.locations[None], points.weights[None]
    )
    torch.testing.assert_close(layer.output_proj(sampled) + query, result, atol=1e-5, rtol=1e-5)


def test_recorded_maps_are_those_that_are_attended():
    torch.manual_seed(0)
    layer = FusedAttention(8, 2, 0.0).eval()
    query, query_pos = torch.randn(1, 5, 8), torch.randn(5, 8)
    memory, memory_pos = torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    allowed = torch.ones(1, 1, 5, 6, dtype=torch.bool)
    allowed[..., 4] = False
    with recorded_inputs(layer) as found:
        result = layer(query, query_pos, memory, memory_pos, allowed)
    weights = dense_weights(layer, found.inputs, range(5))
    assert weights.shape == (5, 2, 6) and (weights[..., 4] == 0).all()
    w, b = (one.chunk(3)[2] for one in (layer.attn.in_proj_weight, layer.attn.in_proj_bias))
    values = (memory[0] @ w.T + b).view(6, 2, 4).transpose(0, 1)
    attended = (weights.transpose(0, 1) @ values).transpose(0, 1).flatten(1)
    expected = query[0] + layer.attn.out_proj(attended)
    torch.testing.assert_close(expected, result[0], atol=1e-5, rtol=1e-5)


META = dict(batch_input_shape=(64, 96), img_shape=(40, 80), ori_shape=(20, 40))


def test_places_are_turned_into_pixels_of_the_image():
    # x: 0.25 of 96 is 24, of an image twice as large as read 12; the centre of pixel 0 is 0
    found = to_pixels(torch.tensor([[0.25, 0.5]]), META)
    assert found.tolist() == [[11.5, 15.5]]


def test_the_token_at_a_place_is_the_one_that_covers_it():
    points = SampledPoints(*[torch.zeros(1)] * 3, [(8, 12), (4, 6)])
    assert token_at(points, (0, 0), META, 0) == 0
    assert token_at(points, (11, 15), META, 0) == 3 * 12 + 2  # cells of 4 pixels as read
    assert token_at(points, (11, 15), META, 1) == 96 + 1 * 6 + 1
    with pytest.raises(ConfigError, match='image is 40 x 20'):
        token_at(points, (41, 3), META, 0)
    with pytest.raises(ConfigError, match='2 levels'):
        token_at(points, (1, 1), META, 2)


def test_a_point_is_drawn_at_its_place_and_heavier_ones_larger():
    image = np.zeros((640, 640, 3), np.uint8)
    points = np.array([[[100.0, 200.0], [400.0, 300.0], [-500.0, 9.0]]])
    drawn = draw_points(image, points, np.array([[0.9, 0.1, 0.5]]), colours=[(255, 0, 0)])
    ys, xs = np.nonzero(drawn[..., 0])
    left = xs < 250
    assert abs(xs[left].mean() - 100) < 0.6 and abs(ys[left].mean() - 200) < 0.6
    assert abs(xs[~left].mean() - 400) < 0.6 and left.sum() > 2 * (~left).sum() > 0
    assert drawn[200, 100].tolist() == [255, 0, 0] and drawn[300, 400, 0] < 100


def test_a_map_is_brightest_where_it_weighs_most():
    weights = np.zeros((4, 4))
    weights[1, 3] = 1
    drawn = draw_weights(np.full((64, 64, 3), 90, np.uint8), weights, 1.0)
    side = drawn.shape[0] // 4
    brightness = drawn.sum(2).reshape(4, side, 4, side).mean((1, 3))
    assert np.unravel_index(brightness.argmax(), (4, 4)) == (1, 3)


@pytest.fixture(scope='module')
def isda(tmp_path_factory):
    folder = tmp_path_factory.mktemp('isda')
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'a.png'), image)
    cfg = load_model(write_isda_config(folder, 3), None, 'cpu')
    for step in cfg.cfg.test_dataloader.dataset.pipeline:
        if step['type'].endswith('Resize'):
            step['scale'] = (96, 64)
    return cfg, folder / 'a.png'


@pytest.mark.parametrize(
    ('settings', 'count'),
    [
        (AttentionSettings(num_best=2), 2),
        (AttentionSettings(queries=(4,), heads=(0, 3), separate=True, layer=0), 1),
        (AttentionSettings(part='encoder', at=(10, 20), level=1, layer=0), 1),
    ],
)
def test_queries_of_an_image_are_drawn(isda, tmp_path, settings, count):
    model, image = isda
    written = draw_attention(model, image, tmp_path, settings)
    assert len(written) == count and all(path.is_file() for path in written)
    if settings.queries:
        assert written[0].name == 'a_query4.png'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(layer=7), 'has 2 layers'),
        (dict(queries=(9,)), 'there are 9 queries'),
        (dict(heads=(8,)), 'has 8 heads'),
        (dict(part='encoder'), '--at X Y'),
        (dict(part='neck'), 'encoder, decoder'),
    ],
)
def test_what_cannot_be_drawn_is_explained(isda, tmp_path, options, message):
    model, image = isda
    with pytest.raises(ConfigError, match=message):
        draw_attention(model, image, tmp_path, AttentionSettings(**options))


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp('video')
    write_frames(folder / 'frames', moving_square(3))
    return folder


@pytest.mark.parametrize(
    'settings',
    [
        AttentionSettings(num_best=1),
        AttentionSettings(part='encoder', num_best=1),
        AttentionSettings(part='encoder', at=(20, 10), level=1),
    ],
)
@pytest.mark.parametrize('layout', ['instance_major', 'interleaved'])
def test_clips_are_drawn_frame_by_frame(video, tmp_path, settings, layout):
    model = load_defvistr(write_defvistr_config(tmp_path, query_layout=layout))
    [path] = draw_attention(model, video / 'frames', tmp_path, settings)
    assert cv2.imread(str(path)).shape[1] >= 3 * 420
