"""Drawing class maps: colours, ignored pixels, legend."""

import numpy as np

from isda_suite.visualization import draw_class_map, draw_class_maps_side_by_side
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


WIDTH, GAP, BAR = IMAGE.shape[1], 6, 24


def test_image_labels_and_prediction_stand_side_by_side_over_one_legend():
    palette = [[0, 200, 0], [0, 0, 200], [255, 255, 255]]
    gt, pred = _labels(), np.ones((400, 420), np.uint8)
    picture = draw_class_maps_side_by_side(IMAGE, gt, pred, CLASSES, palette, 'a.png', alpha=0.5)
    panels = [picture[BAR : BAR + 400, i * (WIDTH + GAP) :][:, :WIDTH] for i in range(3)]
    assert (panels[0] == 90).all()
    assert panels[1][100, 100].tolist() == [45, 145, 45] and panels[1][0, 300].tolist() == [90] * 3
    assert (panels[2] == (45, 45, 145)).all()
    legend = picture[BAR + 400 :].reshape(-1, 3)
    assert [(legend == colour).all(axis=1).any() for colour in palette[:2]] == [True, True]


def test_without_labels_there_are_two_panels():
    pred = np.zeros((400, 420), np.uint8)
    picture = draw_class_maps_side_by_side(IMAGE, None, pred, CLASSES)
    assert picture.shape[1] == 2 * WIDTH + GAP


def test_large_images_are_reduced_and_their_writing_is_enlarged():
    image = np.zeros((2560, 5120, 3), np.uint8)
    labels = np.zeros((2560, 5120), np.int64)
    labels[:, 2560:] = 1
    picture = draw_class_maps_side_by_side(image, None, labels, CLASSES, [[200] * 3, [0] * 3])
    assert picture.shape[:2] == (640 + 4 * BAR, 2 * 1280 + GAP)
    pred = picture[2 * BAR : 2 * BAR + 640, -1280:]
    assert (pred[:, :640] == 120).all() and not pred[:, 640:].any()
