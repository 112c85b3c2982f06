"""Pictures of confusion matrices: colours tell shares, of few classes, many and absent ones."""

import numpy as np
import pytest

from isda_suite.visualization import draw_confusion_matrix

GREY = (0xE4, 0xE4, 0xE4)


def dark(picture):
    """Return how many pixels have the colour of 100 %."""
    return int((np.abs(picture.astype(int) - (8, 48, 107)).max(axis=2) < 3).sum())


@pytest.mark.parametrize('count', [1, 2, 7, 40])
def test_right_predictions_make_the_diagonal_dark(count):
    names = [f'class {index}' for index in range(count)]
    picture = draw_confusion_matrix(np.eye(count, dtype=np.int64), names, [1.0] * count, 'title')
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    half = np.full((count, count), 5)
    assert dark(picture) > dark(draw_confusion_matrix(half, names)) or count == 1


def test_a_class_without_labelled_pixels_is_grey():
    matrix = np.array([[5, 0], [0, 0]])
    picture = draw_confusion_matrix(matrix, ['a', 'b'], [1.0, float('nan')])
    assert (picture == GREY).all(axis=2).mean() > 0.1
    full = draw_confusion_matrix(np.eye(2, dtype=int), ['a', 'b'], [1.0, 1.0])
    assert not (full == GREY).all(axis=2).mean() > 0.01


def test_no_labelled_pixel_at_all_is_a_picture_too():
    picture = draw_confusion_matrix(np.zeros((3, 3), int), list('abc'), [float('nan')] * 3)
    assert (picture == GREY).all(axis=2).mean() > 0.1
