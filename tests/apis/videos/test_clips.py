import pytest

from isda_suite.apis.videos.clips import cut_clips
from isda_suite.datasets.clips import clip_records
from isda_suite.engine.errors import ConfigError


def numbers_of(length, clip_len, overlap):
    """Return the frame numbers of each clip, after checking them against the frames."""
    clips = list(cut_clips(iter(range(length)), clip_len, overlap))
    assert all(clip.frames == clip.numbers for clip in clips)
    assert [clip.is_last for clip in clips] == [False] * (len(clips) - 1) + [True] * bool(clips)
    assert all(clip.num_valid == min(length, clip_len) for clip in clips)
    assert all(clip.start == clip.numbers[0] for clip in clips)
    return [clip.numbers for clip in clips]


def test_the_last_clip_is_moved_back_to_end_with_the_video():
    assert numbers_of(10, 4, 1) == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert numbers_of(9, 4, 1) == [[0, 1, 2, 3], [3, 4, 5, 6], [5, 6, 7, 8]]
    assert numbers_of(9, 4, 0) == [[0, 1, 2, 3], [4, 5, 6, 7], [5, 6, 7, 8]]
    assert numbers_of(6, 4, 3) == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]


def test_a_video_of_the_length_of_a_clip_is_one_clip():
    assert numbers_of(4, 4, 2) == [[0, 1, 2, 3]]
    assert numbers_of(5, 4, 2) == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_a_short_video_is_repeated_from_its_start():
    assert numbers_of(3, 8, 2) == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert numbers_of(1, 3, 0) == [[0, 0, 0]]
    assert numbers_of(0, 3, 0) == []


@pytest.mark.parametrize('clip_len', [1, 2, 5])
@pytest.mark.parametrize('length', range(1, 24))
def test_clips_of_a_stream_are_those_of_the_test_data_set(length, clip_len):
    video = {'video_id': 1, 'video_length': length, 'images': list(range(length))}
    for overlap in range(clip_len):
        found = list(cut_clips(iter(range(length)), clip_len, overlap))
        expected = list(clip_records(video, clip_len, overlap))
        for clip, record in zip(found, expected, strict=True):
            assert clip.frames == clip.numbers == record['clip_frames']
            assert clip.start == record['clip_start']
            assert (clip.num_valid, clip.is_last) == (record['num_valid'], record['is_last_clip'])


def test_a_clip_is_there_before_the_stream_goes_on():
    """A camera must not be read for a second clip before the first one is predicted."""
    read = []

    def stream():
        for number in range(100):
            read.append(number)
            yield number

    clips = cut_clips(stream(), 4, 1)
    next(clips)
    assert read == [0, 1, 2, 3, 4]  # one ahead, to know whether the clip is the last one
    next(clips)
    assert read[-1] == 7


@pytest.mark.parametrize('clip_len, overlap, named', [(0, 0, 'clip_len'), (4, 4, 'overlap'),
                                                      (4, -1, 'overlap')])  # fmt: skip
def test_lengths_that_cannot_work_are_named(clip_len, overlap, named):
    with pytest.raises(ConfigError, match=named):
        list(cut_clips([1, 2], clip_len, overlap))
