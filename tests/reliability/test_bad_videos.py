"""Wrong YouTube-VIS files through the real tools: exit code 3 and a message with its place."""

import re

import cv2
import numpy as np
import pytest

from tests.data.youtube_vis_fake.faults import FATAL
from tests.data.youtube_vis_fake.make import config, make
from tests.engine.toy import ToySegmenter, write_config
from tests.tools.in_process import call_tool

FRAMES = 'train/JPEGImages'


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Run a tool on a configuration with videos; returns its exit code and what it said."""
    data = f'train_dataloader["dataset"] = {config(tmp_path, pipeline=[])!r}\n'

    def run(script, *arguments):
        monkeypatch.chdir(tmp_path)
        path = write_config(tmp_path, tmp_path, f'{data}val_dataloader = None\n')
        code = call_tool(monkeypatch, script, path, *arguments)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out + captured.err

    return run


def _shorten(path):
    path.write_bytes(path.read_bytes()[:300])


def _turn(path):
    cv2.imwrite(str(path), np.zeros((64, 48, 3), np.uint8))


@pytest.mark.parametrize('name', FATAL)
def test_check_dataset_ends_with_3(tmp_path, tool, name):
    change, message = FATAL[name]
    make(tmp_path, change)
    code, said = tool('tools/check_dataset.py', '--split', 'train')
    assert code == 3
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ('spoil', 'found'),
    [
        (_shorten, 'image broken'),
        (_turn, 'image of another size than annotated'),
    ],
)
def test_every_frame_is_decoded_on_request(tmp_path, tool, spoil, found):
    make(tmp_path)
    check = ('tools/check_dataset.py', '--split', 'train')
    code, said = tool(*check, '--images')
    assert code == 0
    assert '7  images decoded' in said, 'of the videos that are used'
    spoil(tmp_path / FRAMES / 'v1/00003.jpg')
    assert tool(*check)[0] == 0
    code, said = tool(*check, '--images')
    assert code == 3
    assert f'error: {found}' in said and 'video id 1, frame 3: ' in said


@pytest.mark.parametrize('name', ['absent class', 'length', 'RLE too short', 'no videos left'])
def test_training_stops_before_the_model_is_built(tmp_path, tool, name, monkeypatch):
    monkeypatch.setattr(ToySegmenter, '__init__', lambda *args, **kwargs: pytest.fail('built'))
    change, message = FATAL[name]
    make(tmp_path, change)
    code, said = tool('tools/train.py', '--work-dir', 'w')
    assert code == 3
    assert re.search(message, said), said


def test_training_stops_when_a_frame_is_missing(tmp_path, tool):
    make(tmp_path)
    (tmp_path / FRAMES / 'v2/00001.jpg').unlink()
    code, said = tool('tools/train.py', '--work-dir', 'w')
    assert code == 3
    assert 'video id 2, frame 1: no image' in said
