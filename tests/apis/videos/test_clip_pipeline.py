import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import TrackDataSample
from mmengine.config import Config

from isda_suite.apis.model import load_model
from isda_suite.apis.videos.clip_pipeline import ClipPipeline, clip_length
from isda_suite.apis.videos.clips import Clip, cut_clips
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import write_config
from tests.apis.tiny_video_models import VIDEO_MODEL
from tests.apis.video_files import moving_square

FRAMES = moving_square(6)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return load_model(write_config(tmp_path_factory.mktemp('clips'), VIDEO_MODEL), device='cpu')


def test_frames_take_the_way_of_the_test_data_set(model):
    clip = next(cut_clips(FRAMES, 4, 1))
    packed = ClipPipeline(model.cfg)(clip, video_id=7)
    assert packed['inputs'].shape == (4, 3, 24, 32) and packed['inputs'].dtype == torch.uint8
    for frame, found in zip(clip.frames, packed['inputs'], strict=True):
        expected = mmcv.imresize(frame, (32, 24), backend='pillow')
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_the_data_sample_says_which_part_of_which_video_it_is(model):
    pipeline = ClipPipeline(model.cfg)
    first, second = (pipeline(clip, 7)['data_samples'] for clip in cut_clips(FRAMES, 4, 1))
    assert isinstance(first, TrackDataSample) and len(first.video_data_samples) == 4
    assert (first.video_id, first.ori_shape, first.num_valid) == (7, (48, 64), 4)
    assert (first.clip_frames, first.is_last_clip) == ([0, 1, 2, 3], False)
    assert (second.clip_frames, second.clip_start) == ([2, 3, 4, 5], 2)
    assert second.is_last_clip and second.video_length == 6
    frame = second.video_data_samples[3]
    assert (frame.img_shape, frame.ori_shape, frame.frame_id) == ((24, 32), (48, 64), 5)
    short = pipeline(Clip(FRAMES[:2] * 2, [0, 1, 0, 1], 2, True), 7)['data_samples']
    assert (short.clip_frames, short.num_valid, short.video_length) == ([0, 1, 0, 1], 2, 2)


def test_models_say_how_many_frames_they_take(model):
    assert clip_length(model) == 4
    assert clip_length(torch.nn.Linear(1, 1)) is None


def test_a_config_without_a_pipeline_is_refused():
    with pytest.raises(ConfigError, match='no pipeline'):
        ClipPipeline(Config(dict(test_dataloader=dict(dataset=dict(type='X')))))
