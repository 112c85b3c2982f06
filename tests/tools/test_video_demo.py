import json

import numpy as np
import pytest
import torch

from isda_suite.apis.model import load_model
from isda_suite.apis.videos.source import open_video
from tests.apis.tiny_models import write_config
from tests.apis.tiny_video_models import VIDEO_MODEL, scene
from tests.apis.video_files import write_frames, write_video
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'demo/video_demo.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config, its weights, a video and its frames."""
    where = tmp_path_factory.mktemp('demo')
    model = load_model(write_config(where, VIDEO_MODEL), device='cpu')
    torch.save({'state_dict': model.state_dict()}, where / 'tiny.pth')
    write_video(where / 'a.mp4', scene(9))
    write_frames(where / 'frames', scene(9))
    return where


def command(files, source, *options):
    return [files / 'tiny.py', files / 'tiny.pth', files / source, '--device', 'cpu', *options]


def test_a_video_is_tracked_drawn_and_written(files, tmp_path):
    out, results = tmp_path / 'new' / 'out.mp4', tmp_path / 'results.json'
    options = ['--out', out, '--results', results, '--overlap', 2, '--video-id', 3]
    done = run_python(TOOL, *command(files, 'a.mp4', *options))
    assert done.returncode == 0, done.stderr
    assert '9/9' in done.stderr  # the progress bar
    written = (out, results, results.with_suffix('.zip'))
    said = ['9 frames, 2 tracks with a score of at least 0.3', *(f'wrote {p}' for p in written)]
    assert '\n'.join(said) in done.stdout and all(path.is_file() for path in written)
    drawn = open_video(out)
    assert len(list(drawn)) == 9 and drawn.fps == 12
    entries = json.loads(results.read_text())
    assert [(e['video_id'], len(e['segmentations'])) for e in entries] == [(3, 9)] * 2


def test_frames_go_from_a_folder_to_a_folder(files, tmp_path, monkeypatch, capsys):
    options = ['--out', tmp_path / 'out', '--every', 2, '--max-frames', 3]
    assert not call_tool(monkeypatch, TOOL, *command(files, 'frames', *options))
    assert '3 frames, 2 tracks' in capsys.readouterr().out
    found = list(open_video(tmp_path / 'out'))
    plain = scene(9)[2].repeat(8, axis=0).repeat(8, axis=1)
    assert found[1].shape == plain.shape
    assert np.abs(found[1][-40:, -40:].astype(int) - plain[-40:, -40:]).max() < 8


def test_help_and_wrong_arguments_need_no_libraries():
    done = run_python(TOOL, '--help', timeout_s=5)
    assert done.returncode == 0 and '--clip-len' in done.stdout
    for wrong, said in (
        (['a.py', 'b.pth', 'c.mp4'], 'nothing to do'),
        (['a.py', 'b.pth', 'c.mp4', '--out', 'd.mp4', '--every', 0], '--every must be above 0'),
        (['a.py', 'b.pth', 'c.mp4', '--results', 'd'], '--results must end with .json'),
        (['a.py', 'b.pth', '--out', 'd.mp4'], 'SOURCE'),
    ):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize(
    'source, options, code, said',
    [
        ('absent.mp4', ['--out', 'OUT'], 3, 'no video'),
        ('tiny.py', ['--out', 'OUT'], 3, 'cannot be decoded'),
        ('a.mp4', ['--out', 'a.webp'], 2, 'videos end with'),
        ('frames', ['--out', 'FRAMES'], 2, 'holds pictures already'),
        ('a.mp4', ['--out', 'VIDEO'], 2, 'would replace it'),
        ('a.mp4', ['--out', 'OUT', '--clip-len', 5], 2, 'the model takes 4 frames a clip'),
        ('a.mp4', ['--out', 'OUT', '--overlap', 4], 2, 'got clip_len=4, overlap=4'),
    ],
)
def test_faults_end_with_their_code_and_one_line(
    files, tmp_path, monkeypatch, capsys, source, options, code, said
):
    places = {
        'OUT': tmp_path / 'out.mp4',
        'FRAMES': files / 'frames',
        'VIDEO': files / 'a.mp4',
    }
    options = [places.get(option, option) for option in options]
    assert call_tool(monkeypatch, TOOL, *command(files, source, *options)) == code
    errors = capsys.readouterr().err
    assert said in errors and 'Traceback' not in errors
    assert not list(tmp_path.iterdir())
    assert len(list(open_video(files / 'a.mp4'))) == 9
