"""Drawing tubes: colours of tracks, thresholds, empty and odd cases."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from isda_suite.visualization.colours import class_colours, colour
from isda_suite.visualization.tubes import TubeSlice, draw_tubes

IMAGE = np.full((400, 420, 3), 90, np.uint8)


def square(top, left, side=80, size=(400, 420)):
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def mixed(track):
    """Return the colour of a track over the grey image."""
    return 0.5 * np.array(colour(track)) + 0.5 * 90


def test_a_track_keeps_its_colour_whatever_is_around_it():
    first = draw_tubes(IMAGE, [TubeSlice(7, 0, 0.9, square(100, 100))])
    second = draw_tubes(
        IMAGE,
        [TubeSlice(2, 1, 0.9, square(250, 300)), TubeSlice(7, 3, 0.2, square(100, 200))],
    )
    assert np.abs(first[170, 140] - mixed(7)).max() <= 2
    assert np.abs(second[170, 240] - mixed(7)).max() <= 2
    assert np.abs(second[320, 340] - mixed(2)).max() <= 2
    assert np.abs(first[390, 10].astype(int) - 90).max() == 0
    assert colour(7) == class_colours(8)[7]


def test_the_contour_is_opaque_and_the_label_has_the_colour_of_the_track():
    picture = draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, square(100, 100))], ['dog'])
    assert (picture[140, 100] == colour(0)).all()
    assert (picture[101:118, 100:150] == colour(0)).all(axis=2).mean() > 0.3
    wider = draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, square(100, 100))], ['earless_seal'])
    assert (wider != picture).any()


def test_run_length_codes_are_drawn_as_their_masks():
    mask = square(100, 100)
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    drawn = [draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, one)]) for one in (mask, code)]
    assert np.array_equal(*drawn)


def test_the_image_itself_stays_as_it_was():
    image = IMAGE.copy()
    draw_tubes(image, [TubeSlice(0, 0, 0.9, square(100, 100))])
    assert np.array_equal(image, IMAGE)


@pytest.mark.parametrize(
    'slices',
    [
        [],
        [TubeSlice(0, 0, 0.9, None)],
        [TubeSlice(0, 0, 0.9, np.zeros((400, 420), bool))],
        [TubeSlice(0, 0, 0.1, square(100, 100))],
    ],
    ids=['no track', 'absent', 'empty mask', 'low score'],
)
def test_nothing_to_draw_is_the_frame_itself(slices):
    assert np.array_equal(draw_tubes(IMAGE, slices, score_thr=0.3), IMAGE)


def test_grey_and_tiny_frames_are_drawn_too():
    grey = draw_tubes(np.full((400, 420), 90, np.uint8), [TubeSlice(0, 0, 0.9, square(99, 99))])
    assert np.array_equal(grey, draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, square(99, 99))]))
    tiny = np.full((3, 5, 3), 90, np.uint8)
    mask = np.zeros((3, 5), bool)
    mask[2, 4] = True
    drawn = draw_tubes(tiny, [TubeSlice(3, 0, None, mask)])
    assert drawn.shape == (384, 640, 3)
    assert np.abs(drawn[370, 600] - mixed(3)).max() <= 2


def test_large_frames_get_larger_writing():
    image = np.full((1080, 1920, 3), 90, np.uint8)
    mask = square(500, 500, 300, (1080, 1920))
    large = draw_tubes(image, [TubeSlice(0, 0, 0.9, mask)])
    small = draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, square(100, 100))])
    patches = [int((p == colour(0)).all(axis=2).sum()) for p in (large[500:540], small[100:120])]
    assert patches[0] > 2 * patches[1]


def test_small_instances_stay_visible_on_large_ones():
    small, large = square(150, 150, 60), square(50, 50, 300)
    slices = [TubeSlice(0, 0, 0.9, small), TubeSlice(1, 0, 0.9, large)]
    picture = draw_tubes(IMAGE, slices)
    below = 0.5 * np.array(colour(1)) + 45
    assert np.abs(picture[200, 180] - (0.5 * np.array(colour(0)) + 0.5 * below)).max() <= 2


def test_writing_stays_inside_the_frame():
    corner = square(390, 410, 10)
    picture = draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, corner)], ['a_long_name_of_a_class'])
    patch = (picture == colour(0)).all(axis=2)
    assert patch[380:].any() and patch.sum() > 1000


def test_labels_of_instances_at_one_place_do_not_hide_each_other():
    slices = [TubeSlice(track, 0, 0.9, square(100, 100)) for track in (0, 1, 2)]
    inside = draw_tubes(IMAGE, slices)[103:175, 103:170]  # without the contours
    for track in (0, 1, 2):
        assert (inside == colour(track)).all(axis=2).sum() > 300


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r'a mask of \(2, 2\) for a frame of \(400, 420\)'):
        draw_tubes(IMAGE, [TubeSlice(0, 0, 0.9, np.ones((2, 2), bool))])


def test_an_instance_of_an_image_has_the_colour_of_its_class_and_no_number():
    drawn = draw_tubes(IMAGE, [TubeSlice(None, 3, 0.9, square(100, 100))], with_labels=False)
    assert np.abs(drawn[140, 140] - mixed(3)).max() <= 2
    tracked = draw_tubes(IMAGE, [TubeSlice(3, 3, 0.9, square(100, 100))])
    named = draw_tubes(IMAGE, [TubeSlice(None, 3, 0.9, square(100, 100))])
    assert (named != drawn).any() and (named != tracked).any()


def test_boxes_are_drawn_when_they_are_asked_for():
    disk = square(100, 100)
    disk[100:140, 100:140] = False  # the box has a corner that the mask has not
    without = draw_tubes(IMAGE, [TubeSlice(1, 0, None, disk)], with_labels=False)
    boxed = draw_tubes(IMAGE, [TubeSlice(1, 0, None, disk)], with_boxes=True, with_labels=False)
    assert (without[100, 100] == 90).all()
    assert (boxed[100, 100] == colour(1)).all()
