"""The generated videos: same bytes, moving objects that leave and hide, valid annotations."""

import hashlib
import json

import numpy as np
import pytest
from mmengine import Config
from mmengine.registry import DefaultScope

from isda_suite.datasets.checks import inspect_dataset
from isda_suite.datasets.sample import write_sample_coco
from isda_suite.datasets.sample_folder import STAMP_NAME
from isda_suite.datasets.sample_video import LENGTHS, video_of, write_sample_videos
from isda_suite.datasets.scene_rendering import render
from isda_suite.registry import DATASETS
from isda_suite.resources import resource_root

CONFIG = resource_root() / 'configs/_base_/datasets/sample_video.py'


def _hashes(root):
    return {
        str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_sample_videos(tmp_path_factory.mktemp('sample') / 'videos', progress=False)


@pytest.fixture(scope='module')
def content(sample):
    return json.loads((sample / 'train.json').read_text())


def test_the_same_seed_gives_the_same_bytes_whatever_the_number(sample, tmp_path):
    few = _hashes(write_sample_videos(tmp_path / 'few', 2, 1, progress=False))
    known = _hashes(sample)
    assert all(known[name] == found for name, found in few.items() if name.endswith('.jpg'))
    other = _hashes(write_sample_videos(tmp_path / 'other', 2, 1, seed=1, progress=False))
    assert not set(other.values()) & set(known.values())


def test_written_videos_are_left_alone_and_incomplete_ones_repaired(tmp_path):
    root = write_sample_videos(tmp_path / 'v', 1, 1, progress=False)
    before = (root / STAMP_NAME).stat().st_mtime_ns
    write_sample_videos(root, 1, 1, progress=False)
    assert (root / STAMP_NAME).stat().st_mtime_ns == before
    frame = root / 'valid/JPEGImages/000000/00003.jpg'
    frame.unlink()
    write_sample_videos(root, 1, 1, progress=False)
    assert frame.is_file()
    write_sample_coco(root, 1, 1, progress=False)
    assert not frame.exists(), 'another sample takes the place of this one'
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/a.txt').touch()
    with pytest.raises(FileExistsError, match='was not written by the sample generator'):
        write_sample_videos(tmp_path / 'mine', 1, 1, progress=False)


def test_videos_are_shorter_and_longer_than_a_clip_and_small(sample, content):
    clip = Config.fromfile(CONFIG).num_frames
    assert LENGTHS[0] < clip < LENGTHS[1]
    lengths = [video['length'] for video in content['videos']]
    assert len(lengths) == 24 and lengths.count(LENGTHS[0]) == lengths.count(LENGTHS[1]) == 12
    assert sum(path.stat().st_size for path in sample.rglob('*') if path.is_file()) < 4e6


def test_objects_move_hide_each_other_leave_and_come(content):
    gone = came = hidden = moved = 0
    for track in content['annotations']:
        seen = [mask is not None for mask in track['segmentations']]
        assert any(seen)
        assert seen == [box is not None for box in track['bboxes']]
        gone += seen[0] and not seen[-1]
        came += seen[-1] and not seen[0]
        areas = [area for area in track['areas'] if area is not None]
        hidden += min(areas) < 0.6 * max(areas)
        boxes = np.array([box for box in track['bboxes'] if box is not None])
        moved += bool(np.ptp(boxes[:, 0]) + np.ptp(boxes[:, 1]) > 10)
    count = len(content['annotations'])
    absent = [mask is None for one in content['annotations'] for mask in one['segmentations']]
    assert 0.05 < np.mean(absent) < 0.4
    assert gone >= 3 and came >= 3
    assert hidden > 0.2 * count and moved > 0.5 * count
    labels = [track['category_id'] for track in content['annotations']]
    assert all(labels.count(label) > 0.1 * count for label in (1, 2, 3, 4))


def test_all_objects_can_be_seen_at_one_frame_of_each_video():
    for index in range(4):
        scene, length = video_of(0, 'valid', index)
        assert length == LENGTHS[index % 2]
        areas = [render(scene, float(time)).masks.sum(axis=(1, 2)).min() for time in range(length)]
        assert max(areas) >= 40


@pytest.mark.parametrize('split', ['train', 'val'])
def test_the_configuration_loads_them_and_the_checks_find_nothing(sample, split):
    cfg = Config.fromfile(CONFIG)
    dataset = cfg[f'{split}_dataloader'].dataset
    dataset.data_root = str(sample)
    with DefaultScope.overwrite_default_scope('mmdet'):
        (report,) = inspect_dataset(dataset, images=split == 'val')
        loaded = DATASETS.build(dataset)
    assert not report.findings
    assert len(loaded) == (24 if split == 'train' else 4 + 4 * 3)
    sample_of = loaded[1]
    assert sample_of['inputs'].shape[:2] == (8, 3)
    assert len(sample_of['data_samples'].video_data_samples) == 8
