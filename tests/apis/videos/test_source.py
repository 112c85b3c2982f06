import tracemalloc

import cv2
import numpy as np
import pytest

from isda_suite.apis.videos import source as video_source
from isda_suite.apis.videos.source import open_video
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from tests.apis.video_files import moving_square, write_frames, write_video

FRAMES = moving_square(12)


class FakeCamera:
    """A camera that shows three frames and counts how often it was opened and released."""

    opened = 0
    released = 0

    def __init__(self, index):
        self.left = 3
        self.index = index
        FakeCamera.opened += 1

    def isOpened(self):
        return self.index == 0

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 30.0}.get(key, -1.0)

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, FRAMES[self.left]

    def release(self):
        FakeCamera.released += 1


def test_a_file_gives_its_frames_rate_and_length(tmp_path):
    video = open_video(write_video(tmp_path / 'a.mp4', FRAMES))
    found = list(video)
    assert (len(found), video.num_frames, video.fps, video.notes) == (12, 12, 12.0, [])
    for frame, expected in zip(found, FRAMES, strict=True):
        assert frame.dtype == np.uint8 and np.abs(frame.astype(int) - expected).mean() < 6


def test_frames_in_a_folder_come_in_the_order_of_their_numbers(tmp_path):
    folder = write_frames(tmp_path / 'frames', FRAMES)  # frame_10 sorts before frame_2 as text
    (folder / 'notes.txt').write_text('no frame')
    for source in (folder, str(folder / '*.png')):
        video = open_video(source)
        assert video.num_frames == 12 and video.fps is None
        assert all(map(np.array_equal, list(video), FRAMES))


def test_arrays_may_come_from_a_generator_and_be_grey():
    known, unknown = open_video(FRAMES), open_video(frame for frame in FRAMES)
    assert (known.num_frames, unknown.num_frames) == (12, None)
    assert all(map(np.array_equal, list(unknown), FRAMES))
    grey = [np.full((5, 7), 9, np.uint8), np.full((5, 7, 1), 9, np.uint8)]
    assert [frame.shape for frame in open_video(grey)] == [(5, 7, 3)] * 2
    assert len(list(open_video(np.stack(FRAMES)))) == 12


@pytest.mark.parametrize('kind', ['file', 'folder', 'arrays'])
def test_every_nth_frame_and_a_limit(kind, tmp_path):
    source = {
        'file': lambda: write_video(tmp_path / 'a.mp4', FRAMES),
        'folder': lambda: write_frames(tmp_path / 'frames', FRAMES),
        'arrays': lambda: FRAMES,
    }[kind]()
    video = open_video(source, every=5)
    found = list(video)
    assert len(found) == video.num_frames == 3
    for frame, expected in zip(found, FRAMES[::5], strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 6
    if kind == 'file':
        assert video.fps == pytest.approx(12 / 5)
    limited = open_video(source, every=2, max_frames=4)
    assert len(list(limited)) == limited.num_frames == 4
    for option in ('every', 'max_frames'):
        with pytest.raises(ConfigError, match=f'{option} must be at least 1, got 0'):
            open_video(source, **{option: 0})


def test_a_stopped_video_ends_with_the_frame_at_hand():
    video = open_video(FRAMES)
    found = []
    for frame in video:
        found.append(frame)
        if len(found) == 4:
            video.stop()
    assert len(found) == 4


def test_a_camera_is_opened_once_and_given_back(monkeypatch):
    monkeypatch.setattr(video_source.cv2, 'VideoCapture', FakeCamera)
    for source in ('0', 0):
        FakeCamera.opened = FakeCamera.released = 0
        video = open_video(source)
        assert (video.num_frames, video.fps, video.name) == (None, 30.0, 'camera 0')
        assert len(list(video)) == 3
        assert (FakeCamera.opened, FakeCamera.released) == (1, 1)
    with pytest.raises(DataError, match='camera 7 cannot be opened'):
        open_video('7')


def test_a_folder_is_not_taken_for_a_camera(tmp_path, monkeypatch):
    write_frames(tmp_path / '0', FRAMES[:2])
    monkeypatch.chdir(tmp_path)
    assert open_video('0').num_frames == 2


@pytest.mark.parametrize(
    'content, cause',
    [
        (b'', 'empty'),
        (b'<html>404</html>', 'text, not a video'),
        (b'\0\0\0\x20ftypisom', 'cannot be decoded'),
    ],
)
def test_a_file_that_is_no_video_is_named_with_the_cause(content, cause, tmp_path):
    file = tmp_path / 'bad.mp4'
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf'bad\.mp4: .*{cause}'):
        open_video(file)


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(DataError, match=r'no video .*absent\.mp4'):
        open_video(tmp_path / 'absent.mp4')
    with pytest.raises(DataError, match='no file here ends with'):
        open_video(tmp_path)
    with pytest.raises(DataError, match='no file here ends with'):
        open_video(str(tmp_path / '*.png'))
    write_frames(tmp_path, FRAMES[:1])
    with pytest.raises(DataError, match='one picture: give the folder'):
        open_video(tmp_path / 'frame_0.png')
    with pytest.raises(DataError, match=r'float64 \(2, 2\)'):
        list(open_video([np.zeros((2, 2))]))
    with pytest.raises(DataError, match=r'must be \(T, H, W, 3\)'):
        open_video(np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match='no frame'):
        list(open_video([]))


def test_frames_of_another_size_or_unreadable_are_named(tmp_path):
    folder = write_frames(tmp_path / 'frames', FRAMES[:3])
    cv2.imwrite(str(folder / 'frame_3.png'), FRAMES[0][:30])
    with pytest.raises(DataError, match=r'frame 3 \(frame_3\.png\) is .*\(30, 64\).*\(48, 64\)'):
        list(open_video(folder))
    (folder / 'frame_1.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'frame_1\.png: the file is empty'):
        list(open_video(folder))


def test_a_file_that_is_cut_off_gives_what_it_has_and_a_note(tmp_path):
    whole = write_video(tmp_path / 'a.avi', moving_square(30))
    content = whole.read_bytes()
    cut = tmp_path / 'cut.avi'
    cut.write_bytes(content[: len(content) * 2 // 3])
    video = open_video(cut)
    found = list(video)
    assert 0 < len(found) < 30
    if video.num_frames is not None and video.num_frames > len(found):
        assert 'cut off?' in video.notes[0] and f'{len(found)} could be decoded' in video.notes[0]


def test_long_videos_take_no_more_memory_than_short_ones(tmp_path):
    def peak(num_frames):
        frame = np.zeros((200, 200, 3), np.uint8)
        tracemalloc.start()
        for _ in open_video(frame.copy() for _ in range(num_frames)):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(5)
    assert peak(400) < 1.5 * peak(10)
