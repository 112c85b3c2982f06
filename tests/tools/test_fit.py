"""What `fit` says: that it fits, or what would; also of a GPU that is not there."""

import json
import re

import pytest
import torch
from mmengine.config import Config

from isda_suite.apis.model import build_model
from tests.engine.toy import write_coco, write_config
from tests.tools.in_process import call_tool


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, write_coco(tmp_path / 'data'))

    def call(*words):
        code = call_tool(monkeypatch, 'tools/fit.py', config, '--workers', 0, *words)
        out, err = capsys.readouterr()
        return code, out if code == 0 else err

    return call


def test_it_says_that_it_fits(fit):
    code, text = fit('--memory', 1000)
    assert code == 0
    assert '1000.00 GB free' in text and text.rstrip().endswith('\nit fits')


def test_it_says_what_is_needed_what_is_there_and_what_would_fit(fit):
    _, text = fit('--json', '--batch-size', 1, '--image-size', 32, 32)
    little = json.loads(text[text.index('{\n') :])['total'] / 1e9
    # The toy takes some 100 bytes a pixel, so the large one some GB.
    words = ('--batch-size', 8, '--image-size', 2048, 2048)
    code, text = fit('--memory', little + 1.5, *words)
    assert code == 0
    needed, there = re.search(
        r'it will not fit: it needs about ([\d.]+) GB, the machine has ([\d.]+) GB; ', text
    ).groups()
    assert float(needed) > float(there) == pytest.approx(little + 1.5, abs=0.01)
    batch = int(re.search(r'a batch size of (\d) ', text)[1])
    assert 1 <= batch < 8
    assert re.search(r'or 8 x (\d+) x \1 pixels \(about [\d.]+ GB\) would fit', text)
    _, text = fit('--json', '--memory', little + 1.5, '--batch-size', batch, *words[2:])
    assert json.loads(text[text.index('{\n') :])['fits']


def test_memory_of_a_gpu_is_estimated_without_one(fit, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    code, text = fit('--device', 'cuda')
    assert code == 0
    assert 'GB of a GPU, unknown how much is free' in text
    assert 'are assumptions' in text and 'no GPU here: --memory GB' in text
    code, text = fit('--device', 'cuda', '--memory', 0.5, '--test')
    assert 'it will not fit: it needs about' in text and 'the GPU has 0.50 GB' in text
    assert 'no smaller input would' in text


def test_a_checkpoint_of_a_test_counts_by_its_size(fit, tmp_path):
    file = tmp_path / 'weights.pth'
    config = Config.fromfile(tmp_path / 'toy.py')
    states = torch.zeros(20_000_000)
    torch.save({'state_dict': build_model(config).state_dict(), 'optimizer': states}, file)
    _, text = fit('--test', '--checkpoint', file, '--json')
    found = json.loads(text[text.index('{\n') :])
    assert found['checkpoint'] == file.stat().st_size > 8e7 > found['step']
    parts = ('process', 'weights', 'optimizer', 'checkpoint', 'loaders')
    assert found['total'] == sum(found[name] for name in parts)
    code, text = fit('--test', '--checkpoint', tmp_path / 'absent.pth')
    assert code == 2 and 'absent.pth is not there' in text


@pytest.mark.parametrize('words', [['--memory', 0], ['--checkpoint', 'file.pth']])
def test_what_makes_no_sense_is_refused(fit, words):
    code, text = fit(*words)
    assert code == 2 and words[0] in text
