"""Loading images: rotation tags, skipping, sizes."""

import cv2
import numpy as np
import pytest

from isda_suite.datasets.errors import DataError
from isda_suite.datasets.transforms import LoadImage
from tests.datasets.test_image_file import jpeg_turned_by_exif


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


def test_bad_images_can_be_skipped_but_not_many_of_them(tmp_path):
    load = LoadImage(bad_images='skip')
    record = {'img_path': str(tmp_path / 'absent.jpg')}
    assert [load(dict(record)) for _ in range(3)] == [None] * 3
    with pytest.raises(DataError, match=r'4 of 4 images this worker read are bad.*absent\.jpg'):
        load(dict(record))
    load = LoadImage(bad_images='skip')
    load.num_seen = 9000
    assert [load(dict(record)) for _ in range(9)] == [None] * 9
    with pytest.raises(ValueError, match="'stop' or 'skip', got 'never'"):
        LoadImage(bad_images='never')
