"""The COCO reader: item, length, missing, corrupt, wrong size, drawing; labels by name."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from isda_suite.datasets import coco_instance
from isda_suite.datasets.coco_checks import check_coco
from isda_suite.datasets.errors import DataError
from isda_suite.registry import DATASETS
from isda_suite.visualization import draw_samples
from tests.data.coco_fake.make import HEIGHT, WIDTH, config, make

PIPELINE = [
    {'type': 'isda_suite.LoadImage'},
    {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
    {'type': 'isda_suite.DropEmptyMasks'},
    {'type': 'PackDetInputs'},
]


@pytest.fixture
def build(tmp_path):
    """Give a function that makes the fake data set and builds its reader."""

    def build(change=None, **changes):
        make(tmp_path, change)
        with DefaultScope.overwrite_default_scope('mmdet'):
            return DATASETS.build(config(tmp_path, pipeline=PIPELINE, **changes))

    return build


def test_length_leaves_out_images_without_a_usable_instance(build):
    assert len(build()) == 2
    assert len(build(filter_cfg=None)) == 3
    assert len(build(test_mode=True)) == 3


def test_an_item_has_the_masks_of_the_annotations(build):
    sample = build()[0]
    assert sample['inputs'].shape == (3, HEIGHT, WIDTH)
    instances = sample['data_samples'].gt_instances
    assert instances.labels.tolist() == [0, 1]
    areas = instances.masks.to_ndarray().sum(axis=(1, 2)).tolist()
    assert areas == [400, 160]


def test_a_crowd_region_is_never_a_target(build):
    sample = build(filter_cfg=None)[2]['data_samples']
    assert len(sample.gt_instances) == 0
    assert len(sample.ignored_instances) == 1


def test_labels_follow_names_whatever_the_order_in_the_json(build):
    straight = build()[0]['data_samples'].gt_instances.labels.tolist()

    def swapped(content):
        content['categories'].reverse()

    assert build(swapped)[0]['data_samples'].gt_instances.labels.tolist() == straight
    other = build(metainfo={'classes': ('dog', 'cat')})
    assert other[0]['data_samples'].gt_instances.labels.tolist() == [1, 0]
    assert other.cat_ids == [9, 5]


def test_classes_come_from_the_json_when_the_config_names_none(build):
    dataset = build(metainfo={}, test_mode=True)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert dataset.metainfo['ann_file'].endswith('instances_train.json')


def test_missing_boxes_areas_and_masks_are_filled_in(build):
    def change(content):
        del content['annotations'][0]['bbox'], content['annotations'][0]['area']
        del content['annotations'][1]['segmentation']

    dataset = build(change)
    first, second = dataset.get_data_info(0)['instances']
    assert np.allclose(first['bbox'], [10, 8, 30, 28], atol=1)
    assert (first['ignore_flag'], second['ignore_flag']) == (0, 1)
    assert len(dataset[0]['data_samples'].gt_instances) == 1


def test_a_missing_image_names_file_and_remedy(build, tmp_path):
    dataset = build()
    (tmp_path / 'train' / '0.jpg').unlink()
    with pytest.raises(DataError, match=r'no image .*0\.jpg.*data_prefix'):
        dataset[0]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda data: b'', r'empty \(0 bytes\)'),
        (lambda data: data[: len(data) // 2], 'cut off, or no image'),
        (lambda data: b'<!DOCTYPE html><html>404', 'text, not an image'),
        (lambda data: b'version https://git-lfs.github.com', 'text, not an image'),
    ],
)
def test_a_corrupt_image_says_what_it_is(build, tmp_path, spoil, message):
    dataset = build()
    path = tmp_path / 'train' / '0.jpg'
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        dataset[0]


def test_an_image_of_another_size_is_refused(build, tmp_path):
    dataset = build()
    cv2.imwrite(str(tmp_path / 'train' / '0.jpg'), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r'\(64, 48\), its annotation says \(48, 64\)'):
        dataset[0]


def test_bad_images_can_be_skipped_until_there_are_too_many(build, tmp_path):
    dataset = build(bad_images='skip')
    total = len(dataset)
    (tmp_path / 'train' / '0.jpg').write_bytes(b'')
    assert dataset[0]['data_samples'].img_path != str(tmp_path / 'train' / '0.jpg')
    assert dataset[0] is not None  # the same image counts once
    (tmp_path / 'train' / '1.jpg').unlink()
    with pytest.raises(DataError, match=rf'2 of {total} images cannot be read, more than 0\.1%'):
        dataset[1]
    tests = build(bad_images='skip', test_mode=True)  # writes the images anew
    (tmp_path / 'train' / '0.jpg').write_bytes(b'')
    with pytest.raises(DataError, match='empty'):
        tests[0]
    with pytest.raises(ValueError, match=r"bad_images: expected one of .* got 'ignore'"):
        build(bad_images='ignore')


def test_samples_can_be_drawn(build, tmp_path):
    written = draw_samples(build(), tmp_path / 'out', num=2, progress=False)
    assert [path.name for path in written] == ['0000_0.jpg', '0001_1.jpg', 'contact_sheet.jpg']
    picture = cv2.imread(str(written[0]))
    assert min(picture.shape[:2]) >= 384
    with pytest.raises(ValueError, match='nothing to draw'):
        draw_samples(build(), tmp_path / 'out', num=0, progress=False)


def test_a_file_that_passed_is_not_checked_again_until_it_changes(build, tmp_path, monkeypatch):
    build().check()
    calls = []
    monkeypatch.setattr(coco_instance, 'check_coco', lambda *a: calls.append(a) or check_coco(*a))
    with DefaultScope.overwrite_default_scope('mmdet'):
        DATASETS.build(config(tmp_path, pipeline=[]))
        assert not calls
        DATASETS.build(config(tmp_path, pipeline=[], metainfo={}))
        assert len(calls) == 1
    build()
    assert len(calls) == 2
