"""The clips of videos in tests: items, length, order over processes, faults."""

import pickle

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from isda_suite.datasets import samplers
from isda_suite.datasets.checks import inspect_dataset
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.samplers import VideoSampler
from isda_suite.registry import DATA_SAMPLERS, DATASETS
from tests.data.youtube_vis_fake.make import HEIGHT, WIDTH, clip_config, make

PIPELINE = [
    {
        'type': 'TransformBroadcaster',
        'transforms': [
            {'type': 'isda_suite.LoadImage'},
            {'type': 'isda_suite.ResizeShortSide', 'scale': 30},
        ],
    },
    {'type': 'isda_suite.PackClipInputs'},
]
FRAMES = 'train/JPEGImages'


@pytest.fixture
def build(tmp_path):
    """Give a function that makes the fake data set and builds its clips."""

    def build(change=None, **changes):
        make(tmp_path, change)
        with DefaultScope.overwrite_default_scope('mmdet'):
            return DATASETS.build(clip_config(tmp_path, **{'pipeline': PIPELINE, **changes}))

    return build


def test_items_are_the_clips_of_all_videos_in_order(build):
    dataset = build()
    samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
    assert [one.video_id for one in samples] == [1, 1, 2, 3]
    assert [one.video_length for one in samples] == [4, 4, 3, 2]
    assert [one.clip_frames for one in samples] == [[0, 1, 2], [1, 2, 3], [0, 1, 2], [0, 1, 0]]
    assert [one.clip_start for one in samples] == [0, 1, 0, 0]
    assert [one.num_valid for one in samples] == [3, 3, 3, 2]
    assert [one.is_last_clip for one in samples] == [False, True, True, True]
    assert samples[3].file_names == ['v3/00000.jpg', 'v3/00001.jpg', 'v3/00000.jpg']
    assert all(one.ori_shape == (HEIGHT, WIDTH) for one in samples)
    assert [one.frame_id for one in samples[1].video_data_samples] == [1, 2, 3]
    assert dataset.num_all_imgs == 9


def test_a_data_set_survives_the_way_to_a_worker(build):
    again = pickle.loads(pickle.dumps(build()))
    assert again[1]['data_samples'].clip_frames == [1, 2, 3]


def test_a_test_file_needs_no_annotations_and_leaves_no_video_out(build):
    dataset = build(lambda content: content.pop('annotations'))
    assert len(dataset) == 4 and dataset[3]['data_samples'].video_id == 3


def test_frames_are_resized_by_their_short_side_and_stay_8_bits(build):
    inputs = build()[0]['inputs']
    assert inputs.shape == (3, 3, 30, 40) and inputs.dtype.is_floating_point is False


def test_workers_keep_the_order(build):
    dataset = build()
    loader = DataLoader(
        dataset, sampler=VideoSampler(dataset), num_workers=2, collate_fn=lambda batch: batch[0]
    )
    seen = [(one['data_samples'].video_id, one['data_samples'].clip_start) for one in loader]
    assert seen == [(1, 0), (1, 1), (2, 0), (3, 0)]


@pytest.mark.parametrize('world_size', [1, 2, 3, 5])
def test_each_process_has_whole_videos_and_none_is_lost(build, monkeypatch, world_size):
    dataset = build()
    parts = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = DATA_SAMPLERS.build(dict(type='isda_suite.VideoSampler', dataset=dataset, seed=1))
        parts.append(list(sampler))
        assert len(sampler) == len(parts[-1])
        assert parts[-1] == sorted(parts[-1])
    assert sorted(index for part in parts for index in part) == list(range(len(dataset)))
    owners = [{dataset.get_data_info(index)['video_id'] for index in part} for part in parts]
    assert sum(map(len, owners)) == 3, 'no video in two processes'
    if world_size == 2:
        assert sorted(map(len, parts)) == [2, 2]
    if world_size == 5:
        assert parts[-1] == [], 'a process without a video has nothing to do'


def test_training_and_frames_of_their_own_are_refused(build):
    with pytest.raises(ValueError, match=r'set test_mode=True, or train .*SampleClip'):
        build(test_mode=False)
    with pytest.raises(ValueError, match='clip_len=2, overlap=2'):
        build(clip_len=2, overlap=2)
    with pytest.raises(TypeError, match=r'use isda_suite\.VideoSampler'):
        build()[0, 1]


def test_a_frame_that_is_missing_or_of_another_size_stops(build, tmp_path):
    import cv2

    dataset = build()
    path = tmp_path / FRAMES / 'v1/00003.jpg'
    path.unlink()
    assert dataset[0] is not None
    with pytest.raises(DataError, match=r'no image .*v1/00003\.jpg'):
        dataset[1]
    cv2.imwrite(str(path), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r'v1/00003\.jpg.*\(64, 48\), .* says \(48, 64\)'):
        dataset[1]


def test_the_check_decodes_every_frame_once(build, tmp_path):
    build()
    (report,) = inspect_dataset(clip_config(tmp_path), images=True)
    assert not report.fatal
    assert report.facts['images decoded'] == 9
    (tmp_path / FRAMES / 'v1/00001.jpg').write_bytes(b'')
    (report,) = inspect_dataset(clip_config(tmp_path), images=True)
    assert report.findings['image broken'].count == 1, 'it is in two clips'
