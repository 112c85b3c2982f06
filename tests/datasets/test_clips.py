"""Which frames make a clip: cyclic windows in training, a cover of the video in tests."""

from itertools import pairwise

import pytest

from isda_suite.datasets.clips import (
    check_clip_length,
    clip_records,
    clip_starts,
    cyclic_window,
)


@pytest.mark.parametrize(
    ('end', 'length', 'frames'),
    [
        (3, 4, [0, 1, 2, 3]),
        (1, 4, [2, 3, 0, 1]),
        (1, 3, [1, 2, 0, 1]),
        (0, 1, [0, 0, 0, 0]),
        (5, 9, [2, 3, 4, 5]),
        (1, 9, [7, 8, 0, 1]),
    ],
)
def test_a_window_ends_at_its_frame_and_wraps(end, length, frames):
    assert cyclic_window(end, length, 4) == frames


@pytest.mark.parametrize(
    ('length', 'overlap', 'starts'),
    [
        (1, 0, [0]),
        (4, 2, [0]),
        (5, 0, [0, 1]),
        (8, 0, [0, 4]),
        (8, 2, [0, 2, 4]),
        (9, 1, [0, 3, 5]),
        (12, 3, [*range(9)]),
    ],
)
def test_clips_cover_a_video_and_the_last_one_ends_with_it(length, overlap, starts):
    found = clip_starts(length, 4, overlap)
    assert found == starts
    assert {start + frame for start in found for frame in range(4)} >= set(range(length))
    assert all(later - start <= 4 - overlap for start, later in pairwise(found))


@pytest.mark.parametrize(('clip_len', 'overlap'), [(0, 0), (4, 4), (4, -1)])
def test_lengths_that_cut_nothing_are_refused(clip_len, overlap):
    with pytest.raises(ValueError, match=f'clip_len={clip_len}, overlap={overlap}'):
        check_clip_length(clip_len, overlap)


def test_a_short_video_is_repeated_from_its_start():
    (clip,) = clip_records({'video_id': 7, 'video_length': 3, 'images': list('abc')}, 8, 2)
    assert clip['clip_frames'] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert clip['num_valid'] == 3 and clip['is_last_clip'] and clip['clip_start'] == 0
    assert clip['images'] == list('abc')
