import gc
import tracemalloc

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_mask

from isda_suite.apis.model import load_model
from isda_suite.apis.video import predict_video
from isda_suite.apis.videos.results_file import check_results, read_results, write_results
from isda_suite.apis.videos.source import open_video
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import DETECTOR, write_config
from tests.apis.tiny_video_models import COLOURS, VIDEO_MODEL, scene
from tests.apis.video_files import write_frames, write_video


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return load_model(write_config(tmp_path_factory.mktemp('video'), VIDEO_MODEL), device='cpu')


def predict(model, source, **options):
    prediction = predict_video(model, source, progress=False, **options)
    return list(prediction), prediction


def decoded(frame, track):
    return coco_mask.decode(frame.masks[frame.ids.index(track)]).astype(bool)


@pytest.mark.parametrize('length', [1, 3, 4, 5, 6, 7, 11, 12])
@pytest.mark.parametrize('overlap', [1, 2, 3])
def test_every_frame_comes_once_with_the_tracks_in_it(model, length, overlap):
    frames, prediction = predict(model, scene(length), overlap=overlap)
    assert [frame.number for frame in frames] == list(range(length))
    assert prediction.num_frames == length
    for frame, image in zip(frames, scene(length), strict=True):
        assert np.array_equal(frame.image, image)
        assert len(frame.ids) == 2
        for track, colour in zip(frame.ids, [COLOURS[label] for label in frame.labels],
                                 strict=True):  # fmt: skip
            shown = (image == colour).all(axis=2)
            both = decoded(frame, track) & shown
            assert both.sum() > 0.8 * (decoded(frame, track) | shown).sum()


def test_a_track_keeps_its_number_though_slots_change_places(model):
    frames, prediction = predict(model, scene(20), overlap=2)
    by_label = {label: {track for frame in frames for track, other in
                        zip(frame.ids, frame.labels, strict=True) if other == label}
                for label in (0, 1)}  # fmt: skip
    assert [len(tracks) for tracks in by_label.values()] == [1, 1]
    assert sorted(prediction.tracks.ids.tolist()) == [0, 1]


def test_what_appears_later_is_a_track_of_its_own(model):
    frames, prediction = predict(model, scene(12, second_from=9), overlap=2)
    assert [len(frame.ids) for frame in frames] == [1] * 9 + [2] * 3
    late = prediction.tracks.labels.tolist().index(1)
    masks = prediction.tracks.masks[late]
    assert len(masks) == 12 and [mask is None for mask in masks][:6] == [True] * 6


def test_the_tracks_hold_the_masks_of_the_frames(model):
    frames, prediction = predict(model, scene(9), overlap=1)
    for n, track in enumerate(prediction.tracks.ids.tolist()):
        for frame in frames:
            assert prediction.tracks.masks[n][frame.number] == frame.masks[frame.ids.index(track)]


def test_all_sources_give_the_same(model, tmp_path):
    images = scene(7)
    folder = write_frames(tmp_path / 'frames', images)
    expected, _ = predict(model, images, overlap=2)
    for source in (folder, (image for image in images), open_video(str(folder / '*.png'))):
        found, _ = predict(model, source, overlap=2)
        assert [(f.ids, f.labels, f.scores, f.masks) for f in found] == [
            (f.ids, f.labels, f.scores, f.masks) for f in expected
        ]
    film, _ = predict(model, write_video(tmp_path / 'a.mp4', images), overlap=2)
    assert [frame.ids for frame in film] == [frame.ids for frame in expected]
    assert len(predict(model, folder, every=3, max_frames=2)[0]) == 2


def test_frames_are_given_out_while_the_video_goes_on(model):
    read = []

    def stream():
        for image in scene(40):
            read.append(image)
            yield image

    frames = iter(predict_video(model, stream(), overlap=2, progress=False))
    assert next(frames).number == 0 and len(read) == 5  # a clip, and one ahead
    for _ in range(9):
        next(frames)
    assert len(read) < 17


def test_results_are_entries_of_a_results_file(model, tmp_path):
    _, prediction = predict(model, scene(6))
    _, packed = write_results(prediction.results(video_id=5), tmp_path / 'new' / 'results')
    entries = read_results(packed)
    assert sorted(entry['category_id'] for entry in entries) == [1, 2]
    video = dict(id=5, height=48, width=64, length=6, file_names=['a.jpg'] * 6)
    content = dict(videos=[video], categories=[dict(id=1), dict(id=2)])
    assert not check_results(entries, content, 'results.json')
    mapped = prediction.results(category_ids=[7, 30])
    assert sorted(entry['category_id'] for entry in mapped) == [7, 30]


def test_a_prediction_tells_when_it_is_used_in_the_wrong_order(model):
    prediction = predict_video(model, scene(5), progress=False)
    with pytest.raises(RuntimeError, match='after the last frame'):
        prediction.results()
    next(iter(prediction))
    with pytest.raises(RuntimeError, match='once'):
        next(iter(prediction))
    _, forgotten = predict(model, scene(5), keep_tracks=False)
    with pytest.raises(RuntimeError, match='keep_tracks'):
        forgotten.results()


def test_memory_does_not_grow_with_the_video(model):
    images = scene(24)

    def peak(length):
        def stream():
            for number in range(length):
                yield images[number % 24].repeat(4, axis=0).repeat(4, axis=1)

        gc.collect()
        tracemalloc.start()
        for _ in predict_video(model, stream(), overlap=2, keep_tracks=False, progress=False):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(8)
    assert peak(120) < 1.2 * peak(12)


def test_lengths_that_do_not_fit_the_model_are_named(model):
    with pytest.raises(ConfigError, match='clip_len 6: the model takes 4 frames a clip'):
        predict_video(model, scene(3), clip_len=6)
    with pytest.raises(ConfigError, match='got clip_len=4, overlap=4'):
        predict_video(model, scene(3), overlap=4)
    assert len(predict(model, scene(3), clip_len=4, overlap=0)[0]) == 3


def test_the_overlap_is_that_of_the_test_data(model, tmp_path):
    text = VIDEO_MODEL.replace('overlap=1', 'overlap=3')
    other = load_model(write_config(tmp_path, text), device='cpu')
    for options, expected in ((dict(), 5), (dict(overlap=0), 2)):
        other.num_clips = 0
        predict(other, scene(8), **options)
        assert other.num_clips == expected
    text = VIDEO_MODEL.replace('overlap=1, ', '').replace('YouTubeVISClipDataset', 'AnyDataset')
    other.cfg = Config.fromstring(text, '.py')
    other.num_clips = 0
    predict(other, scene(8))
    assert other.num_clips == 3  # half a clip


def test_a_model_of_images_is_refused(tmp_path):
    detector = load_model(write_config(tmp_path, DETECTOR), device='cpu')
    with pytest.raises(ConfigError, match='SOLO predicts no videos'):
        predict_video(detector, scene(3))


def test_faults_of_frames_reach_the_caller(model):
    images = scene(6)
    with pytest.raises(DataError, match=r'frame 5 .*one size'):
        predict(model, [*images[:5], images[5][:30]])
    with pytest.raises(DataError, match='no frame'):
        predict(model, [])


def test_gradients_are_not_kept(model):
    torch.set_grad_enabled(True)
    frames, _ = predict(model, scene(5))
    assert all(isinstance(score, float) for frame in frames for score in frame.scores)
    assert torch.is_grad_enabled()
