import cv2
import numpy as np
import pytest

from isda_suite.apis.large_images.pictures import ArrayPicture, ScaledPicture, reduced


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (301, 417, 3), np.uint8)


@pytest.mark.parametrize('scale', [0.8, 0.37, 1.6])
def test_a_window_of_a_resized_picture_is_a_part_of_the_whole(image, scale):
    picture = ScaledPicture(ArrayPicture(image), scale)
    height, width = picture.size_hw
    assert (height, width) == (round(301 * scale), round(417 * scale))
    whole = picture.read(0, 0, height, width)
    window = picture.read(17, 40, height - 17, 50)
    assert np.array_equal(window, whole[17:, 40:90])


@pytest.mark.parametrize('scale', [0.8, 0.37, 1.6])
def test_resizing_is_that_of_opencv_up_to_a_grey_level(image, scale):
    picture = ScaledPicture(ArrayPicture(image), scale)
    found = picture.read(0, 0, *picture.size_hw)
    expected = cv2.resize(image, picture.size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_at_its_own_scale_a_picture_stays_as_it_is(image):
    picture = ScaledPicture(ArrayPicture(image), 1.0)
    assert np.array_equal(picture.read(0, 0, 301, 417), image)


def test_a_picture_of_one_pixel_has_a_size_at_any_scale():
    picture = ScaledPicture(ArrayPicture(np.full((1, 1, 3), 9, np.uint8)), 0.1)
    assert np.array_equal(picture.read(0, 0, 1, 1), np.full((1, 1, 3), 9))


def test_a_reduced_picture_holds_every_nth_pixel(image):
    assert np.array_equal(reduced(ArrayPicture(image), 4), image[::4, ::4])
