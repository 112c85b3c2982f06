"""Captions, legends, rows, sheets and files of pictures."""

import cv2
import numpy as np
import pytest

from isda_suite.visualization.colours import class_colours
from isda_suite.visualization.pictures import (
    beside,
    contact_sheet,
    enlarged,
    save_picture,
    with_caption,
    with_legend,
)

GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def test_a_class_keeps_its_colour_whatever_the_number_of_classes():
    assert class_colours(80)[:5] == class_colours(5)
    assert len(set(class_colours(80))) == 80


def test_captions_and_legends_leave_the_image_as_it_is():
    captioned = with_caption(GREY, 'a caption far too long for such a small picture')
    assert captioned.shape == (64, 60, 3)
    assert (captioned[24:] == GREY).all()
    assert (captioned[:24] < 128).any()
    entries = list(zip(['disk', 'box', 'triangle'], class_colours(3), strict=True))
    legend = with_legend(GREY, entries)
    assert (legend[:40] == GREY).all()
    for _, colour in entries:
        assert (legend[40:] == colour).all(axis=2).any()


def test_a_white_class_is_seen_in_the_legend():
    legend = with_legend(GREY, [('', (255, 255, 255))])[40:]
    assert (legend[:, :, 0] < 128).sum() >= 2 * (15 + 13) - 4


def test_writing_can_be_larger():
    assert with_caption(GREY, 'a', zoom=2).shape[0] == 40 + 2 * 24
    small, large = (with_legend(GREY, [('', (255, 0, 0))], zoom)[40:] for zoom in (1, 2))
    red = [(legend == (255, 0, 0)).all(axis=2).sum() for legend in (small, large)]
    assert red[1] > 3 * red[0]


def test_rows_are_filled_up_with_white():
    row = beside([GREY, GREY[:20]])
    assert row.shape == (40, 126, 3)
    assert (row[20:, 66:] == 255).all()


def test_contact_sheets_hold_every_picture():
    sheet = contact_sheet([GREY, np.zeros((80, 40, 3), np.uint8), GREY], columns=2, cell_width=30)
    assert sheet.shape[1] == 66
    assert (sheet == 128).all(axis=2).sum() == 2 * 20 * 30
    with pytest.raises(ValueError, match='at least one picture'):
        contact_sheet([])


def test_only_small_images_are_enlarged():
    assert enlarged(GREY, 100)[1] == 3
    assert enlarged(GREY, 100)[0].shape == (120, 180, 3)
    assert enlarged(GREY, 40)[0] is GREY


def test_pictures_are_stored_whole_in_rgb_and_nothing_else(tmp_path):
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 255
    path = save_picture(tmp_path / 'new' / 'red.png', red)
    assert cv2.imread(str(path))[0, 0].tolist() == [0, 0, 255]
    assert [one.name for one in path.parent.iterdir()] == ['red.png']
    with pytest.raises(ValueError, match='no picture format'):
        save_picture(tmp_path / 'red.xyz', red)
