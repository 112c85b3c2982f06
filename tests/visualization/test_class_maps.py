"""Drawing class maps: colours, ignored pixels, legend."""

import numpy as np

from isda_suite.visualization import draw_class_map
from isda_suite.visualization.colours import class_colours

IMAGE = np.full((400, 420, 3), 90, np.uint8)
CLASSES = ('land', 'sea', 'ice')


def _labels():
    labels = np.full(IMAGE.shape[:2], 255, np.uint8)
    labels[:200, :200] = 0
    labels[200:, :200] = 2
    return labels


def test_every_class_has_its_colour_and_ignored_pixels_have_none():
    palette = [[0, 200, 0], [0, 0, 200], [255, 255, 255]]
    picture = draw_class_map(IMAGE, _labels(), CLASSES, palette)
    assert picture[100, 100].tolist() == [45, 145, 45]
    assert picture[300, 100].tolist() == [172, 172, 172]
    assert (picture[:400, 200:] == 90).all()
    assert (IMAGE == 90).all(), 'the image itself is not drawn on'


def test_the_legend_shows_the_classes_that_occur():
    legend = draw_class_map(IMAGE, _labels(), CLASSES)[400:].reshape(-1, 3)
    shown = [(legend == colour).all(axis=1).any() for colour in class_colours(3)]
    assert shown == [True, False, True]


def test_small_images_and_their_classes_are_enlarged_alike():
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 5:] = 1
    picture = draw_class_map(np.zeros((10, 10, 3), np.uint8), labels, CLASSES, [[200] * 3, [0] * 3])
    height = picture.shape[1]
    assert height >= 384
    assert (picture[:height, : height // 2] == 100).all()
    assert not picture[:height, height // 2 :].any()


def test_nothing_but_ignored_pixels_is_a_picture_too():
    picture = draw_class_map(IMAGE, np.full((400, 420), 255, np.uint8), CLASSES)
    assert np.array_equal(picture, IMAGE)
