import cv2
import numpy as np
import pytest

from isda_suite.apis.videos import writer as video_writer
from isda_suite.apis.videos.source import open_video
from isda_suite.apis.videos.writer import open_writer
from isda_suite.engine.errors import ConfigError
from tests.apis.video_files import moving_square

PICTURES = [np.ascontiguousarray(frame[..., ::-1]) for frame in moving_square(7)]


def write(path, pictures=PICTURES, **options):
    with open_writer(path, **options) as writer:
        for picture in pictures:
            writer.write(picture)
    assert writer.written == len(pictures)


def read(path):
    return [frame[..., ::-1] for frame in open_video(path)]


@pytest.mark.parametrize('suffix', ['.mp4', '.avi', '.mkv', '.mov'])
def test_a_video_holds_the_pictures_at_the_rate(suffix, tmp_path, capfd):
    path = tmp_path / 'new' / f'out{suffix}'
    write(path, fps=12.5)
    assert open_video(path).fps == pytest.approx(12.5)
    for found, expected in zip(read(path), PICTURES, strict=True):
        assert np.abs(found.astype(int) - expected).mean() < 8
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert capfd.readouterr().err == ''  # a codec that is missing is no news to the user


def test_a_folder_gets_numbered_pictures(tmp_path):
    write(tmp_path / 'out')
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        f'{number:06d}.jpg' for number in range(7)
    ]
    for found, expected in zip(read(tmp_path / 'out'), PICTURES, strict=True):
        assert np.abs(found.astype(int) - expected).mean() < 8


def test_odd_sides_keep_their_last_row_and_column(tmp_path):
    picture = np.zeros((51, 67, 3), np.uint8)
    picture[50], picture[:, 66] = 255, 255
    write(tmp_path / 'out.mp4', [picture] * 3)
    found = read(tmp_path / 'out.mp4')[0]
    assert found.shape == (52, 68, 3)
    assert found[50, 5].min() > 150 and found[5, 66].min() > 150


def test_nothing_is_left_of_a_video_that_failed(tmp_path):
    out = tmp_path / 'out.mp4'
    out.write_bytes(b'an older one')
    with pytest.raises(RuntimeError, match='halfway'), open_writer(out) as writer:
        writer.write(PICTURES[0])
        raise RuntimeError('halfway')
    assert out.read_bytes() == b'an older one'
    assert [file.name for file in tmp_path.iterdir()] == ['out.mp4']
    with pytest.raises(ValueError, match=r'picture 1 is \(w, h\) = \(32, 48\)'):
        write(out, [PICTURES[0], PICTURES[1][:, :32]])
    assert out.read_bytes() == b'an older one'


def test_a_disk_that_took_only_a_part_is_noticed(tmp_path, monkeypatch):
    class Lossy:
        def __init__(self, *arguments):
            self.encoder, self.count = cv2_writer(*arguments), 0

        def isOpened(self):
            return self.encoder.isOpened()

        def write(self, picture):
            self.count += 1
            if self.count <= 3:
                self.encoder.write(picture)

        def release(self):
            self.encoder.release()

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

    cv2_writer = cv2.VideoWriter
    monkeypatch.setattr(video_writer.cv2, 'VideoWriter', Lossy)
    with pytest.raises(OSError, match='3 of 7 frames were written'):
        write(tmp_path / 'out.mp4')
    assert not list(tmp_path.iterdir())


def test_the_next_codec_is_taken_where_one_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(video_writer._CODECS, '.mp4', ('none', 'mp4v'))
    write(tmp_path / 'out.mp4')
    assert len(read(tmp_path / 'out.mp4')) == 7
    monkeypatch.setitem(video_writer._CODECS, '.mp4', ('none',))
    with pytest.raises(ConfigError, match=r'cannot write a video here \(codecs none\)'):
        write(tmp_path / 'other.mp4')
    assert [file.name for file in tmp_path.iterdir()] == ['out.mp4']


def test_names_that_cannot_be_written_are_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r'videos end with \.mp4'):
        open_writer(tmp_path / 'out.webp')
    (tmp_path / 'folder.mp4').mkdir()
    with pytest.raises(ConfigError, match='is a folder'):
        open_writer(tmp_path / 'folder.mp4')
    (tmp_path / 'file').write_text('x')
    with pytest.raises(ConfigError, match='is a file'):
        open_writer(tmp_path / 'file')
    write(tmp_path / 'out')
    with pytest.raises(ConfigError, match='holds pictures already'):
        open_writer(tmp_path / 'out')


def test_no_picture_makes_no_file(tmp_path):
    write(tmp_path / 'out.mp4', [])
    assert not list(tmp_path.iterdir())
