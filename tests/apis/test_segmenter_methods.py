"""Every method through the one API; a method takes part by its sample configuration."""

import json

import numpy as np
import pytest
import torch

from isda_suite import Segmenter
from isda_suite.resources import resource_root
from tests.apis.video_files import moving_square

NAMES = sorted(file.stem for file in (resource_root() / 'configs').glob('*/*_sample.py'))
METHODS = {
    folder.name
    for folder in (resource_root() / 'isda_suite' / 'methods').glob('*')
    if (folder / 'README.md').is_file()
}
VIDEO_METHODS = {'defvistr'}


def build(name):
    torch.manual_seed(0)
    return Segmenter(name, 'random', device='cpu', score_thr=0.0, batch_size=2)


def image(seed, height=64, width=80):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def test_every_method_takes_part():
    assert {name.split('_')[0] for name in NAMES} == METHODS and len(METHODS) >= 7


@pytest.mark.parametrize('name', [n for n in NAMES if n.split('_')[0] not in VIDEO_METHODS])
def test_images_become_results_that_can_be_used(name, tmp_path):
    segmenter = build(name)
    alone = segmenter(image(1))
    others = segmenter([image(2), image(1), image(3, 50, 70)])
    assert [result.image_size for result in others] == [(64, 80), (64, 80), (50, 70)]
    assert np.array_equal(others[1].labels, alone.labels)
    np.testing.assert_allclose(others[1].scores, alone.scores, atol=1e-5)
    assert (others[1].masks == alone.masks).mean() > 0.999 if len(alone) else not len(others[1])
    assert alone.masks.shape == (len(alone), 64, 80) and alone.masks.dtype == bool
    assert alone.boxes.shape == (len(alone), 4)
    assert set(alone.labels) <= set(range(len(segmenter.classes)))
    assert ((0 <= alone.scores) & (alone.scores <= 1)).all()
    assert alone.plot().dtype == np.uint8
    entries = json.loads(json.dumps(alone.to_coco()))
    assert len(entries) == len(alone) == len(alone.to_geojson()['features'])
    for path in alone.save(tmp_path):
        assert path.stat().st_size


@pytest.mark.parametrize('name', [n for n in NAMES if n.split('_')[0] in VIDEO_METHODS])
def test_videos_become_results_that_can_be_used(name, tmp_path):
    segmenter = build(name)
    assert segmenter.task == 'video'
    result = segmenter(moving_square(7))
    assert result.num_frames == 7 and result.image_size == (48, 64)
    assert all(len(masks) == 7 for masks in result.masks)
    assert result.boxes.shape == (len(result), 7, 4)
    entries = json.loads(json.dumps(result.to_coco()))
    assert len(entries) == len(result)
    assert result.plot().dtype == np.uint8
    for path in result.save(tmp_path):
        assert path.stat().st_size
