"""Reading images to draw over them."""

import cv2
import numpy as np
import pytest

from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import read_as_predicted


def jpeg_turned_by_exif(height, width):
    """Return a JPEG whose EXIF orientation asks for a quarter turn."""
    content = cv2.imencode('.jpg', np.zeros((height, width, 3), np.uint8))[1].tobytes()
    tiff = b'MM\x00*\x00\x00\x00\x08' + b'\x00\x01' + b'\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06'
    tiff += b'\x00\x00' + b'\x00\x00\x00\x00'
    payload = b'Exif\x00\x00' + tiff
    return content[:2] + b'\xff\xe1' + (len(payload) + 2).to_bytes(2, 'big') + payload + content[2:]


def test_an_image_is_turned_as_the_prediction_is(tmp_path):
    path = tmp_path / 'turned.jpg'
    path.write_bytes(jpeg_turned_by_exif(20, 30))
    assert read_as_predicted(str(path), (20, 30)).shape == (20, 30, 3)
    assert read_as_predicted(str(path), (30, 20)).shape == (30, 20, 3)
    with pytest.raises(DataError, match='no image'):
        read_as_predicted(str(tmp_path / 'gone.jpg'), (30, 20))
