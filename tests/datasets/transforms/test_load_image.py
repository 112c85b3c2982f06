"""Loading images: rotation tags, sizes, what 8-bit colour loses."""

import cv2
import numpy as np
import pytest

from isda_suite.datasets import counted_warning
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.transforms import LoadImage
from tests.datasets.test_image_file import jpeg_turned_by_exif


@pytest.fixture
def warnings_said(monkeypatch):
    said = []
    monkeypatch.setattr(counted_warning, 'print_log', lambda text, *args, **kw: said.append(text))
    return said


def test_rotation_tags_are_ignored(tmp_path):
    path = tmp_path / 'turned.jpg'
    path.write_bytes(jpeg_turned_by_exif(20, 30))
    # The tag is real: OpenCV turns the image when it may.
    assert cv2.imread(str(path)).shape[:2] == (30, 20)
    assert LoadImage()({'img_path': str(path)})['img'].shape == (20, 30, 3)


def test_records_without_a_size_are_not_compared(tmp_path):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.zeros((8, 9, 3), np.uint8))
    assert LoadImage()({'img_path': path})['ori_shape'] == (8, 9)
    with pytest.raises(DataError, match='another version'):
        LoadImage()({'img_path': path, 'height': 9, 'width': 8})


@pytest.mark.parametrize(
    ('dtype', 'channels', 'suffix', 'loss'),
    [
        (np.uint16, 3, '.png', 'more than 8 bits'),
        (np.uint16, 1, '.png', 'more than 8 bits'),
        (np.uint16, 3, '.tif', 'more than 8 bits'),
        (np.uint8, 4, '.png', 'transparency'),
        (np.uint8, 4, '.tif', 'transparency'),
        (np.uint8, 3, '.png', None),
        (np.uint8, 3, '.tif', None),
        (np.uint8, 1, '.png', None),
        (np.uint8, 3, '.jpg', None),
    ],
)
def test_what_is_lost_in_8_bit_colour_is_warned_about(
    tmp_path, warnings_said, dtype, channels, suffix, loss
):
    path = str(tmp_path / f'image{suffix}')
    cv2.imwrite(path, np.full((8, 9, channels), 7, dtype))
    loaded = LoadImage()({'img_path': path})['img']
    assert (loaded.shape, loaded.dtype) == ((8, 9, 3), np.uint8)
    assert len(warnings_said) == (loss is not None)
    if loss is not None:
        assert f'{path}: image with {loss}' in warnings_said[0]


def test_the_warning_comes_again_only_with_ten_times_as_many(tmp_path, warnings_said):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.zeros((8, 9, 4), np.uint8))
    load = LoadImage()
    for _ in range(99):
        load({'img_path': path})
    assert len(warnings_said) == 2
    assert warnings_said[0].endswith('more are only counted')
    assert warnings_said[1].endswith('10 so far')
