"""Videos through the one API: for models of videos, and frame by frame for those of images."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from isda_suite import InstanceResult, Segmenter, VideoResult
from isda_suite.apis.videos.source import open_video
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.youtube_vis_file import read_youtube_vis
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import write_config, write_image
from tests.apis.tiny_video_models import COLOURS, VIDEO_MODEL, scene
from tests.apis.video_files import write_frames, write_video


@pytest.fixture(scope='module')
def tracker(tmp_path_factory):
    config = write_config(tmp_path_factory.mktemp('tracker'), VIDEO_MODEL)
    return Segmenter(config, 'random', device='cpu')


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    config = write_config(tmp_path_factory.mktemp('detector'))
    return Segmenter(config, 'random', device='cpu', batch_size=2)


def equal(found, expected):
    assert found.masks == expected.masks and found.num_frames == expected.num_frames
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.tracks.frame_scores, expected.tracks.frame_scores, equal_nan=True)


def test_a_video_gives_one_result_with_tracks(tracker):
    result = tracker(scene(9))
    assert isinstance(result, VideoResult) and tracker.task == 'video'
    assert (result.num_frames, result.image_size, len(result)) == (9, (48, 64), 2)
    assert sorted(result.labels.tolist()) == [0, 1]
    frame = result.frame(4)
    assert isinstance(frame, InstanceResult) and frame.masks.shape == (2, 48, 64)
    assert frame.instances.extra['track_id'] == result.tracks.ids.tolist()
    image = scene(9)[4]
    assert np.array_equal(frame.image(), image[..., ::-1])
    for label, mask in zip(frame.labels, frame.masks, strict=True):
        shown = (image == COLOURS[label]).all(axis=2)
        assert (mask & shown).sum() > 0.8 * (mask | shown).sum()
    np.testing.assert_array_equal(result.boxes[:, 4], frame.boxes)


def test_files_folders_patterns_arrays_and_generators_give_the_same(tracker, tmp_path):
    frames = scene(7)
    folder = write_frames(tmp_path / 'frames', frames)
    expected = tracker(frames)
    given = (folder, str(folder / '*.png'), np.stack(frames), iter(frames), open_video(folder))
    for source in given:
        equal(tracker(source), expected)
    written = write_video(tmp_path / 'a.mp4', frames)
    result = tracker(written)
    assert (result.num_frames, result.fps, result.name) == (7, 12, 'a')


def test_several_videos_give_a_list_and_a_folder_of_videos_too(tracker, tmp_path):
    files = [write_video(tmp_path / f'{n}.mp4', scene(n)) for n in (3, 5)]
    for several in (files, tmp_path, str(tmp_path / '*.mp4')):
        results = tracker(several)
        assert [(r.name, r.num_frames) for r in results] == [('3', 3), ('5', 5)]
    assert [r.name for r in tracker.stream(files)] == ['3', '5']


def test_a_broken_video_among_good_ones_can_be_skipped(tracker, tmp_path):
    files = [write_video(tmp_path / f'{n}.mp4', scene(n)) for n in (3, 5)]
    mixed = [*scene(2), scene(1)[0][:20]]  # the last frame has another size
    with pytest.raises(DataError, match='frames of a video have one size'):
        tracker(mixed)
    folder = write_frames(tmp_path / 'frames', mixed)
    results = tracker([files[0], folder, files[1]], bad_images='skip')
    assert [r.name for r in results] == ['3', '5']


def test_what_appears_later_has_no_mask_before(tracker):
    result = tracker(scene(12, second_from=9))
    late = [masks[0] is None for masks in result.masks].index(True)
    assert np.isnan(result.boxes[late, 0]).all() and np.isfinite(result.boxes[late, 11]).all()
    assert len(result.frame(0)) == 1 and len(result.frame(11)) == 2
    strict = Segmenter(tracker.model, score_thr=0.9)(scene(12, second_from=9))
    assert len(strict) == 2  # though the score of the whole track is low
    assert result.scores[late] < 0.6 and result.frame(11).scores.min() > 0.9
    assert result.above(1.0).num_frames == 12 and len(result.above(1.0)) == 0
    with pytest.raises(IndexError, match='frame 12 of 12'):
        result.frame(12)


def test_a_picture_is_no_video(tracker, tmp_path):
    picture = write_image(tmp_path / 'a.png')
    with pytest.raises(DataError, match='one picture'):
        tracker(picture)
    with pytest.raises(DataError, match=r'an array \(48, 64, 3\) is no video'):
        tracker(scene(1)[0])
    with pytest.raises(DataError, match='no video absent'):
        tracker('absent.mp4')
    with pytest.raises(DataError, match='no frame'):
        tracker(np.zeros((0, 8, 8, 3), np.uint8))


def test_results_are_written_as_video_and_youtube_vis(tracker, tmp_path):
    result = tracker(write_video(tmp_path / 'a.mp4', scene(9)))
    video, facts = result.save(tmp_path / 'out')
    assert [p.name for p in (video, facts)] == ['a_overlay.mp4', 'a.json']
    drawn = list(open_video(video))
    assert len(drawn) == 9 and drawn[0].shape == result.frame(0).plot().shape
    content = json.loads(facts.read_text())
    assert read_youtube_vis(facts)['videos'][0]['length'] == 9
    assert len(content['annotations']) == 2
    code = content['annotations'][0]['segmentations'][5]
    index = result.frame(5).instances.extra['track_id'].index(content['annotations'][0]['track_id'])
    assert np.array_equal(coco_mask.decode(code), result.frame(5).masks[index])


def test_exports_hold_every_frame(tracker):
    pytest.importorskip('supervision', reason='pip install isda_suite[supervision]')
    result = tracker(scene(6, second_from=4))
    entries = json.loads(json.dumps(result.to_coco(image_id=5)))
    assert {(e['video_id'], len(e['segmentations'])) for e in entries} == {(5, 6)}
    features = json.loads(json.dumps(result.to_geojson()))['features']
    assert [f['properties']['frame'] for f in features] == [0, 1, 2, 3, 4, 4, 5, 5]
    detections = result.to_supervision()
    assert len(detections) == 6
    assert sorted(detections[5].tracker_id) == sorted(result.tracks.ids)


def test_frames_of_a_generator_are_predicted_and_then_gone(tracker, tmp_path):
    result = tracker(iter(scene(5)))
    assert [path.name for path in result.save(tmp_path)] == ['video.json']
    with pytest.raises(DataError, match='from a generator'):
        result.plot()


def test_tracking_gives_frames_before_the_end(tracker):
    taken = []

    def frames():
        for number, frame in enumerate(scene(20)):
            taken.append(number)
            yield frame

    prediction = tracker.track(frames(), keep_tracks=False, progress=False)
    first = next(iter(prediction))
    assert first.number == 0 and len(first.ids) == 2 and len(taken) < 10
    every_other = tracker.track(np.stack(scene(8)), every=2, max_frames=3, progress=False)
    assert len(list(every_other)) == 3


def test_models_of_images_take_a_video_frame_by_frame(detector, tmp_path):
    frames = scene(5)
    results = detector(write_video(tmp_path / 'a.mp4', frames))
    assert [r.name for r in results] == [f'a_{n:06d}' for n in range(5)]
    assert [r.frame for r in results] == list(range(5))
    assert all(isinstance(r, InstanceResult) and r.image_size == (48, 64) for r in results)
    assert [r.frame for r in detector.stream(np.stack(frames))] == list(range(5))
    assert results[0].save(tmp_path / 'out')[0].name == 'a_000000_overlay.jpg'


def test_a_folder_of_pictures_and_videos_gives_its_pictures_to_models_of_images(detector, tmp_path):
    write_image(tmp_path / 'a.png')
    write_video(tmp_path / 'b.mp4', scene(3))
    assert [result.name for result in detector(tmp_path)] == ['a']
    (tmp_path / 'a.png').unlink()
    assert len(detector(tmp_path)) == 3


def test_models_of_images_do_not_track(detector, tracker, tmp_path):
    with pytest.raises(ConfigError, match='predicts no videos'):
        detector.track(scene(3))
    for n in (3, 5):
        write_video(tmp_path / f'{n}.mp4', scene(n))
    with pytest.raises(DataError, match='is 2 videos'):
        tracker.track(tmp_path)
