"""What cannot be exported is refused in one line, before anything takes long."""

import numpy as np
import pytest
import torch
from torch import nn

from isda_suite.datasets.transforms.clip_geometry import short_side_size
from isda_suite.engine.errors import ConfigError
from isda_suite.export import preparing
from isda_suite.export.decoding import _paste
from isda_suite.export.description import as_properties, from_properties
from isda_suite.export.exporting import export_model
from isda_suite.export.parity import compare, require_equal
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import find_export_form
from isda_suite.layers.grid_mask_export import matrix_decay
from isda_suite.layers.mask_pasting import paste_into_boxes

from .models import build


def test_a_model_without_a_form_is_named_with_those_that_have_one():
    with pytest.raises(ModelConfigError, match=r'model Linear: .* DefVisTR, IDIP, ISDA, ISDNet'):
        find_export_form(nn.Linear(1, 1))


@pytest.mark.parametrize(
    'options, said',
    [
        (dict(format='caffe'), "format: expected one of onnx, torch, got 'caffe'"),
        (dict(format='torch', path='m.onnx'), 'ends with .pt2'),
        (dict(opset_version=3), 'opset_version must be at least 18'),
        (dict(format='torch', path='m.pt2', input_size=(60, 96)), 'the nearest are 64 x 96'),
        (dict(format='torch', path='m.pt2', input_size=(32, 96), dynamic=True), 'at least 96'),
    ],
)
def test_wrong_options_are_said_before_the_model_is_traced(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {'path': 'm.onnx', 'input_size': (64, 96), **options}
    with pytest.raises(ConfigError, match=said):
        export_model(_isda(), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name, options, said',
    [
        (
            'condinst',
            {'detector.test_cfg.nms': {'type': 'soft_nms', 'iou_threshold': 0.6}},
            'soft_nms',
        ),
        ('mask2former', {'detector.test_cfg.instance_on': False}, 'instance_on: expected True'),
    ],
)
def test_options_without_an_exported_form_are_named(name, options, said):
    with pytest.raises(ModelConfigError, match=said):
        find_export_form(build(name, options))


_built = []


def _isda():
    if not _built:
        _built.append(build('isda'))
    return _built[0]


def test_the_header_of_another_program_is_refused():
    with pytest.raises(ConfigError, match=r'm\.onnx: expected a model that `isda export` wrote'):
        from_properties({'author': 'x'}, 'm.onnx')
    facts = {'isda_suite': '1', 'results': 'clip', 'format': 1, 'classes': ['a']}
    assert from_properties({**as_properties(facts), 'author': 'x y'}, 'f') == {
        **facts,
        'author': 'x y',
    }


def test_detections_may_stand_in_another_order_but_not_differ():
    generator = np.random.default_rng(0)
    rows = dict(
        scores=np.array([[0.5, 0.5, 0.2]], np.float32),
        labels=np.array([[3, 1, 2]]),
        masks=generator.random((1, 3, 4, 5), np.float32),
    )
    swapped = {name: value[:, [1, 0, 2]] for name, value in rows.items()}
    assert all(one.largest == 0 for one in compare(rows, swapped))
    swapped['masks'] = swapped['masks'] + np.float32(0.01)
    with pytest.raises(ConfigError, match=r'm does not compute .*: masks differ by 0\.01'):
        require_equal(compare(rows, swapped), 'm')


def test_no_number_is_no_equal_number():
    nan = dict(logits=np.full((1, 2), np.nan, np.float32))
    assert not compare(dict(logits=np.zeros((1, 2), np.float32)), nan)[0].equal


def test_small_pictures_are_padded_to_the_least_sides_of_a_file():
    file = dict(inputs={'images': 0, 'sizes': 0}, pad_divisor=1, side_multiple=32, least_side=96)
    assert preparing.padded_size((40, 130), file) == (96, 160)
    assert preparing.padded_size((40, 130), {**file, 'inputs': {'images': 0}}) == (40, 130)


@pytest.mark.parametrize('size', [(300, 533), (37, 20), (20, 37), (500, 500), (1, 9)])
@pytest.mark.parametrize('limit', [None, 60])
def test_frames_get_the_size_that_the_pipeline_gives_them(size, limit):
    assert preparing.short_side_size(size, 31, limit) == short_side_size(size, 31, limit)


def test_numpy_pastes_masks_as_the_models_do():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 50 - 5
    sides = torch.rand(40, 2, generator=generator) * 30 + 0.2
    boxes = torch.cat([corners, corners + sides], 1)
    masks = torch.rand(40, 7, 7, generator=generator)
    expected = paste_into_boxes(masks, boxes, (37, 45), 0.5).numpy()
    found = np.zeros((40, 37, 45), bool)
    for row, mask, box in zip(found, masks.numpy(), boxes.numpy(), strict=True):
        _paste(row, mask, box, 0.5)
    assert expected.any()
    assert (found != expected).mean() < 1e-4


@pytest.mark.parametrize('kernel', ['gaussian', 'linear'])
def test_matrix_nms_is_mmdets_and_bears_empty_masks(kernel):
    from mmdet.models.layers import mask_matrix_nms

    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 5, 5, generator=generator) > 0.6
    labels = torch.arange(12) % 2
    scores = torch.linspace(0.9, 0.3, 12)
    expected, _, _, _ = mask_matrix_nms(masks, labels, scores, kernel=kernel)
    more = torch.cat([masks.flatten(1).float(), torch.zeros(3, 25)])
    decay = matrix_decay(more, torch.cat([labels, torch.zeros(3).long()]), kernel, 2.0)
    assert decay.isfinite().all()
    torch.testing.assert_close((scores * decay[:12]).sort(descending=True).values, expected)
