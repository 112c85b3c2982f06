import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.structures import DetDataSample, TrackDataSample

from isda_suite.apis.model import load_model
from isda_suite.apis.predictions import DrawPredictions
from isda_suite.apis.video import open_video, predict_video
from isda_suite.apis.videos import pictures as video_pictures
from isda_suite.apis.videos.clip_pipeline import describe_clip
from isda_suite.apis.videos.clips import cut_clips
from isda_suite.apis.videos.pictures import draw_frame, draw_video
from isda_suite.apis.videos.source import stopped_by_interrupt
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import write_config
from tests.apis.tiny_video_models import COLOURS, VIDEO_MODEL, scene
from tests.apis.video_files import write_frames


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return load_model(write_config(tmp_path_factory.mktemp('video'), VIDEO_MODEL), device='cpu')


def test_frames_are_drawn_in_the_colours_of_their_tracks(model):
    from isda_suite.visualization.colours import colour

    frames = list(predict_video(model, scene(5), progress=False))
    picture = draw_frame(model, frames[2], score_thr=0.3)
    assert picture.shape == (384, 512, 3)
    track = frames[2].ids[frames[2].labels.index(0)]
    mixed = 0.5 * np.array(colour(track)) + 0.5 * np.array(COLOURS[0][::-1])
    assert np.abs(picture[180, 150] - mixed).max() <= 3
    plain = draw_frame(model, frames[2], score_thr=1.0)
    assert (plain[180, 150] == COLOURS[0][::-1]).all()


def test_every_frame_becomes_a_picture_of_the_video(model, tmp_path):
    prediction = predict_video(model, scene(7, second_from=5), progress=False)
    assert draw_video(model, prediction, tmp_path / 'out.mp4', fps=10) == 2
    video = open_video(tmp_path / 'out.mp4')
    pictures = list(video)
    assert len(pictures) == 7 and video.fps == 10
    assert pictures[0].shape == (384, 512, 3)  # small frames are enlarged


def test_tracks_are_counted_without_drawing(model):
    prediction = predict_video(model, scene(5), progress=False)
    assert draw_video(model, prediction) == 2
    prediction = predict_video(model, scene(5), progress=False)
    assert draw_video(model, prediction, score_thr=1.0) == 0


def test_a_key_in_the_window_ends_the_video(model, monkeypatch):
    shown = []
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(video_pictures.cv2, 'imshow', lambda title, image: shown.append(image))
    monkeypatch.setattr(video_pictures.cv2, 'destroyAllWindows', lambda: None)
    monkeypatch.setattr(
        video_pictures.cv2, 'waitKey', lambda _: ord('q') if len(shown) == 2 else -1
    )
    prediction = predict_video(model, scene(200), overlap=2, progress=False)
    draw_video(model, prediction, show=True)
    assert 2 < len(shown) == prediction.num_frames < 10  # what was read is finished


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='others always have a screen')
def test_a_window_without_a_screen_is_an_error(model, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match='no screen here'):
        draw_video(model, predict_video(model, scene(3), progress=False), show=True)


def test_the_first_interrupt_finishes_the_video_and_the_second_ends_the_program(model):
    video = open_video(scene(50))
    # A run in the background may have been started with interrupts switched off.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    numbers = []
    with stopped_by_interrupt(video):
        for frame in predict_video(model, video, overlap=1, progress=False):
            numbers.append(frame.number)
            if len(numbers) == 3:
                os.kill(os.getpid(), signal.SIGINT)
        assert numbers == list(range(len(numbers))) and 3 < len(numbers) < 12
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
    signal.signal(signal.SIGINT, inherited)


def test_a_tested_video_is_drawn_when_its_last_clip_is_done(model, tmp_path):
    """As tools/test.py --show-dir does: clips come one by one, tracks with the last of them."""
    images = scene(6)
    folder = write_frames(tmp_path / 'street', images)
    prediction = predict_video(model, images, overlap=2, progress=False)
    list(prediction)
    hook = DrawPredictions(tmp_path / 'pictures', 0.3)
    runner = SimpleNamespace(visualizer=SimpleNamespace(dataset_meta=model.dataset_meta))
    for clip in cut_clips(list(range(6)), 4, 2):
        frames = [
            DetDataSample(metainfo={'img_path': str(folder / f'frame_{number}.png')})
            for number in clip.numbers
        ]
        facts = {**describe_clip(clip), 'video_id': 3, 'ori_shape': (48, 64)}
        sample = TrackDataSample(
            metainfo={**facts, 'video_done': clip.is_last}, video_data_samples=frames
        )
        if clip.is_last:
            sample.pred_tracks = prediction.tracks
        hook.after_test_iter(runner, 0, None, [sample])
        assert (tmp_path / 'pictures').exists() == clip.is_last
    drawn = sorted((tmp_path / 'pictures' / '3_street').iterdir())
    assert [file.name for file in drawn] == [f'{number:05d}.jpg' for number in range(6)]
    picture = next(iter(open_video(drawn[0].parent)))
    plain = images[0].repeat(8, axis=0).repeat(8, axis=1)
    assert np.abs(picture[100:190].astype(int) - plain[100:190]).mean() > 3
