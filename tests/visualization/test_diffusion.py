"""Pictures of boxes on their way."""

import numpy as np
import pytest
from PIL import Image

from isda_suite.visualization.colours import class_colours
from isda_suite.visualization.diffusion import BoxFrame, draw_boxes, save_animation

PLAIN = np.full((400, 500, 3), 40, np.uint8)
BOXES = np.array([[50.0, 60, 150, 200], [300, 100, 450, 300]])


def test_boxes_with_a_good_score_have_the_colour_of_their_class():
    frame = BoxFrame('step', BOXES, np.array([0.9, 0.2]), np.array([1, 0]))
    drawn = draw_boxes(PLAIN, frame, num_classes=3, score_thr=0.5)
    colours = class_colours(3)
    assert tuple(drawn[60, 100]) == tuple(colours[1])
    weak = tuple(drawn[100, 350])
    assert weak != tuple(colours[0]) and len(set(weak)) == 1, 'grey'
    assert (PLAIN == 40).all(), 'the image itself is left alone'


def test_boxes_without_scores_or_far_away_are_drawn_where_they_can_be():
    boxes = np.array([[-1e9, -5, 1e9, 100], [np.nan, 0, 10, 10], [50, 60, 150, 200]])
    drawn = draw_boxes(PLAIN, BoxFrame('noise', boxes), num_classes=3, score_thr=0.5)
    assert drawn[100, 250].tolist() == drawn[60, 100].tolist() != [40, 40, 40]


def test_small_images_are_enlarged_with_their_boxes():
    frame = BoxFrame('noise', np.array([[2.0, 2, 8, 8]]))
    drawn = draw_boxes(PLAIN[:10, :12], frame, num_classes=3, score_thr=0.5, min_side=100)
    assert drawn.shape == (100, 120, 3) and drawn[20, 50].tolist() != [40, 40, 40]


def test_an_animation_holds_every_picture_and_lasts(tmp_path):
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (0, 120, 240)]
    path = save_animation(tmp_path / 'deep' / 'a.gif', pictures, seconds=0.5, last=2.0)
    with Image.open(path) as found:
        seen = []
        for number in range(found.n_frames):
            found.seek(number)
            seen.append((found.info['duration'], int(np.asarray(found.convert('RGB')).mean())))
    assert [time for time, _ in seen] == [500, 500, 2000]
    assert [grey for _, grey in seen] == pytest.approx([0, 120, 240], abs=3)
    assert [one.name for one in path.parent.iterdir()] == ['a.gif']


@pytest.mark.parametrize(('name', 'pictures'), [('a.png', [PLAIN]), ('a.gif', [])])
def test_what_is_no_animation_is_refused(tmp_path, name, pictures):
    with pytest.raises(ValueError, match=r'a \.gif of at least one picture'):
        save_animation(tmp_path / name, pictures)
