"""Loading label images: every way to store ids, what is refused, mmseg's own samples."""

import cv2
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from isda_suite.datasets.errors import DataError
from isda_suite.datasets.label_file import LabelRule
from isda_suite.datasets.transforms import LoadSegLabels

IDS = np.array([[0, 1, 2], [3, 2, 255]], np.uint8)


@pytest.fixture
def load(tmp_path):
    """Write a label, load it as a sample of mmseg's data sets."""

    def load(label, loader=None, **sample):
        path = tmp_path / 'label.png'
        if isinstance(label, Image.Image):
            label.save(path)
        elif isinstance(label, bytes):
            path.write_bytes(label)
        else:
            cv2.imwrite(str(path), label)
        record = {
            'seg_map_path': str(path),
            'img_path': 'image.jpg',
            'label_map': None,
            'reduce_zero_label': False,
            'seg_fields': [],
            **sample,
        }
        return (loader or LoadSegLabels(num_classes=4))(record)

    return load


def test_labels_are_bytes_and_known_to_the_transforms_that_follow(load):
    loaded = load(IDS, ori_shape=(2, 3))
    assert loaded['gt_seg_map'].dtype == np.uint8
    assert loaded['seg_fields'] == ['gt_seg_map']
    assert np.array_equal(loaded['gt_seg_map'], IDS)
    loaded['gt_seg_map'][0, 0] = 3  # transforms change pixels in place


def test_a_colour_table_does_not_change_the_ids(load):
    label = Image.fromarray(IDS)
    label.putpalette(list(range(255, -1, -1)) * 3)
    assert np.array_equal(load(label)['gt_seg_map'], IDS)


def test_one_bit_labels_have_the_ids_0_and_1(load):
    label = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert('1')
    assert load(label)['gt_seg_map'].tolist() == [[0, 1, 1]]


def test_16_bit_labels_are_read_while_their_values_fit(load):
    loaded = load(IDS.astype(np.uint16))['gt_seg_map']
    assert (loaded.dtype, loaded.tolist()) == (np.uint8, IDS.tolist())
    with pytest.raises(DataError, match=r'uint16 label with values 599; expected 0\.\.3 or 255'):
        load(np.array([[0, 599]], np.uint16))


def test_values_outside_are_shown_up_to_eight(load):
    with pytest.raises(DataError, match='values 4, 5, 6, 7, 8, 9, 10, 11, …; expected'):
        load(np.arange(30, dtype=np.uint8).reshape(5, 6))


def test_a_rotation_tag_is_ignored_as_it_is_for_images(load, tmp_path):
    label = Image.fromarray(IDS)
    tags = label.getexif()
    tags[0x0112] = 6  # a quarter turn
    label.save(tmp_path / 'tagged.png', exif=tags)
    assert cv2.imread(str(tmp_path / 'tagged.png')).shape[:2] == (3, 2), 'the tag is real'
    loaded = load((tmp_path / 'tagged.png').read_bytes(), ori_shape=(2, 3))
    assert np.array_equal(loaded['gt_seg_map'], IDS)


@pytest.mark.parametrize(
    'sample',
    [
        {'reduce_zero_label': True},
        {'label_map': {0: 1, 1: 255, 2: 0, 3: 2}},
        {'label_map': {0: 1, 1: 255, 2: 0, 3: 2}, 'reduce_zero_label': True},
    ],
)
def test_ids_are_changed_as_mmseg_changes_them(load, sample):
    highest = 4 if sample.get('reduce_zero_label') else 3
    label = np.minimum(np.arange(6, dtype=np.uint8).reshape(2, 3), highest)
    label[1, 2] = 255
    expected = load(label, loader=LoadAnnotations(), **sample)['gt_seg_map']
    assert np.array_equal(load(label, **sample)['gt_seg_map'], expected)
    with pytest.raises(DataError, match=rf'values {highest + 1}; expected 0\.\.{highest} or 255'):
        load(np.full((2, 3), highest + 1, np.uint8), **sample)


def test_what_the_data_set_says_counts_more_than_the_arguments(load):
    with pytest.raises(DataError, match=r'expected 0\.\.1 or 9'):
        load(IDS, label_rule=LabelRule(num_classes=2, ignore_index=9))


def test_two_classes_of_one_colour_cannot_be_told_apart():
    with pytest.raises(DataError, match='found 3, 2 of them different'):
        LabelRule(num_classes=3, colours=((0, 0, 0), (9, 9, 9), (0, 0, 0)))


def test_without_a_number_of_classes_nothing_is_guessed(load):
    with pytest.raises(DataError, match='set num_classes of LoadSegLabels'):
        load(IDS, loader=LoadSegLabels())


def test_no_image_may_be_larger_than_pillows_limit(load, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2)
    with pytest.raises(DataError, match=r"label\.png: .*Pillow's limit"):
        load(IDS)


def test_a_large_label_takes_little_more_than_its_pixels(load):
    import tracemalloc

    label = np.ones((2000, 2000), np.uint8)
    load(label)
    tracemalloc.start()
    load(label, ori_shape=(2000, 2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * label.nbytes
