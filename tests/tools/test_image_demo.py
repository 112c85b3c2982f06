import cv2
import numpy as np
import pytest
import torch

from isda_suite.apis.model import load_model
from tests.apis.misbehaving_server import running_server
from tests.apis.tiny_models import SEGMENTOR, write_config, write_image
from tests.apis.tiny_video_models import VIDEO_MODEL, scene
from tests.apis.video_files import moving_square, write_video
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'demo/image_demo.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp('demo')
    torch.manual_seed(0)
    model = load_model(write_config(where), device='cpu')
    for parameter in model.mask_head.parameters():  # fresh ones find nothing
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save({'state_dict': model.state_dict()}, where / 'tiny.pth')
    for index in range(2):
        write_image(where / 'images' / f'{index}.png', seed=index)
    return where


def test_a_folder_is_predicted_and_drawn(files, tmp_path):
    command = [files / 'images', files / 'tiny.py', files / 'tiny.pth', '--score-thr', 0.1]
    done = run_python(TOOL, *command, '--out-dir', tmp_path / 'out', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert '2/2' in done.stderr  # the progress bar
    found = int(done.stdout.split(' instances')[0].split()[-1])
    assert found > 0 and f'wrote 2 pictures to {tmp_path / "out"}' in done.stdout
    for name in ('0.png', '1.png'):
        drawn = cv2.imread(str(tmp_path / 'out' / name))
        plain = cv2.imread(str(files / 'images' / name))
        assert drawn.shape[0] * plain.shape[1] == drawn.shape[1] * plain.shape[0]
        smaller = cv2.resize(drawn, plain.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(smaller.astype(int) - plain).max() > 50


def test_where_nothing_is_found_it_says_what_to_do(files, tmp_path, monkeypatch, capsys):
    arguments = [files / 'images/0.png', files / 'tiny.py', files / 'tiny.pth', '--score-thr', 1]
    where = ['--out-dir', tmp_path, '--device', 'cpu']
    assert call_tool(monkeypatch, TOOL, *arguments, *where) == 0
    said = capsys.readouterr().out
    assert '0 instances with a score of at least 1.0: a lower --score-thr' in said


def test_help_and_wrong_arguments_need_no_libraries():
    assert run_python(TOOL, '--help', timeout_s=5).returncode == 0
    for wrong in (['a.png'], ['a.png', 'b.py', 'c.pth', '--score-thr', 3]):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and 'error' in done.stderr


def test_images_that_are_missing_or_unreadable_end_with_code_3(
    files, tmp_path, monkeypatch, capsys
):
    cut = write_image(tmp_path / 'cut.png')
    cut.write_bytes(cut.read_bytes()[:60])
    for image, cause in ((tmp_path / 'absent.png', 'no image'), (cut, 'cut off')):
        arguments = [image, files / 'tiny.py', files / 'tiny.pth', '--out-dir', tmp_path / 'out']
        assert call_tool(monkeypatch, TOOL, *arguments, '--device', 'cpu') == 3
        errors = capsys.readouterr().err
        assert str(image) in errors and cause in errors and 'Traceback' not in errors


def test_the_images_are_never_replaced(files, monkeypatch, capsys):
    before = (files / 'images' / '0.png').read_bytes()
    arguments = [files / 'images', files / 'tiny.py', files / 'tiny.pth']
    assert call_tool(monkeypatch, TOOL, *arguments, '--out-dir', files / 'images') == 2
    assert 'would replace them' in capsys.readouterr().err
    assert (files / 'images' / '0.png').read_bytes() == before
    arguments = [*arguments, '--out-dir', files / 'tiny.py', '--device', 'cpu']
    assert call_tool(monkeypatch, TOOL, *arguments) == 2
    assert 'tiny.py is a file, where a folder is needed' in capsys.readouterr().err


def test_an_address_and_a_video_are_predicted_too(files, tmp_path, monkeypatch, capsys):
    content = (files / 'images/0.png').read_bytes()
    model = [files / 'tiny.py', files / 'tiny.pth', '--device', 'cpu', '--out-dir', tmp_path / 'o']
    with running_server({'one.png': content, 'untold': content}) as (address, _):
        for name in ('one.png', 'untold'):
            assert call_tool(monkeypatch, TOOL, f'{address}/good/{name}', *model) == 0
        assert call_tool(monkeypatch, TOOL, f'{address}/missing/a.png', *model) == 3
    assert 'answered 404' in capsys.readouterr().err
    video = write_video(tmp_path / 'clip.mp4', moving_square(3))
    assert call_tool(monkeypatch, TOOL, video, *model) == 0
    assert 'wrote 3 pictures' in capsys.readouterr().out
    frames = [f'clip_{number:06d}.jpg' for number in range(3)]
    assert sorted(p.name for p in (tmp_path / 'o').iterdir()) == [*frames, 'one.png', 'untold.jpg']


def test_models_of_videos_and_of_pixels_are_taken(tmp_path, monkeypatch, capsys):
    tracker = write_config(tmp_path, VIDEO_MODEL, 'tracks.py')
    segmentor = write_config(tmp_path, SEGMENTOR, 'pixels.py')
    video = write_video(tmp_path / 'clip.mp4', scene(4))
    where = ['--device', 'cpu', '--out-dir', tmp_path / 'o']
    assert call_tool(monkeypatch, TOOL, video, tracker, 'random', *where) == 0
    assert (
        '2 tracks with a score' in (said := capsys.readouterr().out) and 'wrote 1 video to' in said
    )
    image = write_image(tmp_path / 'a.png')
    assert call_tool(monkeypatch, TOOL, image, segmentor, 'random', *where) == 0
    assert sorted(p.name for p in (tmp_path / 'o').iterdir()) == [
        'a.png', 'clip.json', 'clip_overlay.mp4',
    ]  # fmt: skip
    assert call_tool(monkeypatch, TOOL, image, segmentor, *where) == 2
    assert 'no weights given' in capsys.readouterr().err


def test_images_of_the_same_name_get_pictures_of_their_own(files, tmp_path, monkeypatch):
    for folder in ('a', 'b'):
        write_image(tmp_path / folder / 'same.png')
    arguments = [tmp_path / '*' / '*.png', files / 'tiny.py', files / 'tiny.pth', '--device', 'cpu']
    assert call_tool(monkeypatch, TOOL, *arguments, '--out-dir', tmp_path / 'out') == 0
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['1_same.png', 'same.png']
