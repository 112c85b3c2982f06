"""The YouTube-VIS reader: item, length, missing, corrupt, wrong size; labels by name, tracks."""

import cv2
import numpy as np
import pytest
from mmdet.datasets import TrackImgSampler
from mmengine.registry import DefaultScope

from isda_suite.datasets import youtube_vis
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.youtube_vis_checks import check_youtube_vis
from isda_suite.registry import DATASETS
from tests.data.youtube_vis_fake.make import HEIGHT, WIDTH, config, make, mask, run_lengths

LOADING = [
    {'type': 'isda_suite.LoadImage'},
    {'type': 'LoadTrackAnnotations', 'with_mask': True},
]
WHOLE_VIDEO = [
    {'type': 'TransformBroadcaster', 'transforms': LOADING},
    {'type': 'PackTrackInputs'},
]
KEY_FRAME = [{'type': 'UniformRefFrameSample', 'num_ref_imgs': 1}, *WHOLE_VIDEO]
FRAMES = 'train/JPEGImages'


@pytest.fixture
def build(tmp_path):
    """Give a function that makes the fake data set and builds its reader."""

    def build(change=None, **changes):
        make(tmp_path, change)
        with DefaultScope.overwrite_default_scope('mmdet'):
            return DATASETS.build(config(tmp_path, **{'pipeline': KEY_FRAME, **changes}))

    return build


@pytest.fixture
def whole(build):
    """Give a function that loads every frame of a video."""

    def whole(change=None, video=0, **changes):
        changes = {'pipeline': WHOLE_VIDEO, 'test_mode': True, **changes}
        return build(change, **changes)[video]['data_samples'].video_data_samples

    return whole


def test_length_counts_the_videos_with_a_usable_mask(build):
    assert len(build()) == 2
    assert len(build(filter_cfg=None)) == 3
    assert len(build(test_mode=True)) == 3
    assert [build().get_len_per_video(video) for video in (0, 1)] == [4, 3]


def test_an_item_has_the_masks_of_every_frame(whole):
    frames = whole()
    areas = [one.gt_instances.masks.masks.sum(axis=(1, 2)).tolist() for one in frames]
    assert areas == [[160, 144], [144], [160, 144], [160, 144]]
    moved = frames[3].gt_instances
    assert np.array_equal(moved.masks.masks[0], mask(17, 30, 10, 16))
    assert moved.bboxes[0].tolist() == [17, 30, 27, 46]
    assert [one.frame_id for one in frames] == [0, 1, 2, 3]
    assert frames[0].video_id == 1 and frames[0].ori_video_length == 4
    assert np.asarray(whole(video=1)[2].gt_instances.masks.masks).sum() == 400  # a polygon


def test_an_object_keeps_its_id_over_the_frames_and_is_not_there_while_hidden(whole):
    assert [one.gt_instances.instances_ids.tolist() for one in whole()] == [
        [11, 12],
        [12],
        [11, 12],
        [11, 12],
    ]


def test_every_frame_has_an_id_of_its_own(build):
    records = [build(test_mode=True).get_data_info(video) for video in range(3)]
    ids = [image['img_id'] for record in records for image in record['images']]
    assert ids == list(range(1, 10))


def test_frame_samplers_of_mmdet_work_on_it(build):
    dataset = build()
    sample = dataset[1]
    assert sample['inputs'].shape == (2, 3, HEIGHT, WIDTH)
    assert len(sample['data_samples'].key_frames_inds) == 1
    indices = list(TrackImgSampler(dataset, seed=0))
    assert sorted(indices) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    frames = dataset[indices[0]]['data_samples'].video_data_samples
    assert any(one.frame_id == indices[0][1] for one in frames)
    assert dataset.num_all_imgs == 7


def test_a_mask_without_a_pixel_is_no_instance(whole):
    def change(content):
        content['annotations'][0]['segmentations'][2] = run_lengths(mask(0, 0, 0, 0))

    assert whole(change)[2].gt_instances.instances_ids.tolist() == [12]


def test_a_crowd_track_is_never_a_target(whole):
    for frame in whole(video=2):
        assert len(frame.gt_instances) == 0
        assert len(frame.ignored_instances) == 1


def test_labels_follow_names_whatever_the_order_in_the_json(build, whole):
    straight = [one.gt_instances.labels.tolist() for one in whole()]
    assert straight[0] == [1, 0]

    def swapped(content):
        content['categories'].reverse()

    assert [one.gt_instances.labels.tolist() for one in whole(swapped)] == straight
    other = whole(metainfo={'classes': ('dog', 'cat')})
    assert other[0].gt_instances.labels.tolist() == [0, 1]
    assert len(build(metainfo={'classes': ('cat',)})) == 1


def test_classes_come_from_the_json_when_the_config_names_none(build):
    dataset = build(metainfo={}, test_mode=True)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert dataset.metainfo['ann_file'].endswith('instances_train_sub.json')


def test_missing_boxes_areas_and_masks_are_filled_in(whole):
    def change(content):
        del content['annotations'][0]['bboxes'], content['annotations'][0]['areas']
        content['annotations'][1]['segmentations'][3] = None

    frames = whole(change)
    assert frames[3].gt_instances.bboxes.tolist() == [[17, 30, 27, 46]]
    assert frames[3].ignored_instances.instances_ids.tolist() == [12]
    assert frames[1].gt_instances.instances_ids.tolist() == [12], 'hidden, not without a box'


def test_a_test_file_needs_no_annotations(whole):
    frames = whole(lambda content: content.pop('annotations'))
    assert len(frames) == 4 and not any(len(one.gt_instances) for one in frames)


def test_a_missing_frame_names_file_and_remedy(build, tmp_path):
    dataset = build(pipeline=WHOLE_VIDEO, test_mode=True)
    (tmp_path / FRAMES / 'v1/00002.jpg').unlink()
    with pytest.raises(DataError, match=r'no image .*v1/00002\.jpg.*data_prefix'):
        dataset[0]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda data: b'', r'empty \(0 bytes\)'),
        (lambda data: data[: len(data) // 2], 'cut off, or no image'),
        (lambda data: b'<!DOCTYPE html><html>404', 'text, not an image'),
    ],
)
def test_a_corrupt_frame_says_what_it_is(build, tmp_path, spoil, message):
    dataset = build(pipeline=WHOLE_VIDEO, test_mode=True)
    path = tmp_path / FRAMES / 'v2/00001.jpg'
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf'v2/00001\.jpg.*{message}'):
        dataset[1]


def test_a_frame_of_another_size_is_refused(build, tmp_path):
    dataset = build(pipeline=WHOLE_VIDEO, test_mode=True)
    turned = np.zeros((WIDTH, HEIGHT, 3), np.uint8)
    cv2.imwrite(str(tmp_path / FRAMES / 'v1/00001.jpg'), turned)
    with pytest.raises(DataError, match=r'v1/00001\.jpg.*\(64, 48\), .* says \(48, 64\)'):
        dataset[0]


def test_videos_with_bad_frames_can_be_skipped_until_there_are_too_many(build, tmp_path):
    dataset = build(bad_images='skip')
    for frame in range(4):
        (tmp_path / FRAMES / f'v1/{frame:05d}.jpg').write_bytes(b'')
    assert dataset[0]['data_samples'].video_data_samples[0].video_id == 2
    assert dataset[0, 3] is not None  # the same video counts once
    for frame in range(3):
        (tmp_path / FRAMES / f'v2/{frame:05d}.jpg').unlink()
    with pytest.raises(DataError, match=r'2 of 2 videos cannot be read, more than 0\.1%'):
        dataset[1]
    tests = build(bad_images='skip', test_mode=True, pipeline=WHOLE_VIDEO)
    (tmp_path / FRAMES / 'v1/00000.jpg').unlink()
    with pytest.raises(DataError, match='no image'):
        tests[0]


def test_a_file_that_passed_is_not_checked_again_until_it_changes(build, tmp_path, monkeypatch):
    build().check()
    calls = []
    monkeypatch.setattr(
        youtube_vis, 'check_youtube_vis', lambda *a: calls.append(a) or check_youtube_vis(*a)
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        DATASETS.build(config(tmp_path, pipeline=[]))
        assert not calls
        DATASETS.build(config(tmp_path, pipeline=[], metainfo={}))
        assert len(calls) == 1
    build()
    assert len(calls) == 2
