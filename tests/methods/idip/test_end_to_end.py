"""IDIP through the real tools: train, resume, evaluate, draw."""

import json

import pytest
import torch
from PIL import Image

from isda_suite.apis.model import build_model
from isda_suite.apis.queries.diffusion import trace_diffusion
from isda_suite.engine.errors import ConfigError
from tests.tools.in_process import call_tool


def test_train_resume_evaluate_and_draw(config, tmp_path, monkeypatch):
    work_dir = tmp_path / 'run'
    train = ('tools/train.py', config, '--work-dir', work_dir, '--seed', 0)
    assert call_tool(monkeypatch, *train) == 0
    assert (work_dir / 'iter_2.pth').is_file()
    more = ('--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3')
    resumed = (*train, '--resume', 'auto', '--amp', '--allow-config-change')
    assert call_tool(monkeypatch, *resumed, *more) == 0
    found = []
    for name, options in (('a', ()), ('b', ()), ('c', ('model.test_cfg.seed=1',))):
        out, shown = tmp_path / f'{name}.json', tmp_path / name
        test = ('tools/test.py', config, work_dir / 'iter_3.pth', '--eval', 'segm', 'bbox')
        drawing = ('--show-dir', shown, '--show-score-thr', 0.0) if name == 'a' else ()
        extra = ('--cfg-options', 'model.test_cfg.sampling_steps=2', *options)
        assert call_tool(monkeypatch, *test, '--out', out, *drawing, *extra) == 0
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1] != found[2], 'results follow from the seed'
    assert len(found[0]) == 2 and len(list((tmp_path / 'a').rglob('*.*'))) == 2
    events = [file for file in work_dir.rglob('events.out.tfevents*') if file.stat().st_size]
    assert events, 'TensorBoard is written without being asked for'


def test_the_way_from_noise_to_result_is_drawn(config, data, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = build_model(config)
    torch.nn.init.constant_(model.roi_head.box_head.fc_cls.bias, 1.0)  # fresh ones find nothing
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'tiny.pth')
    image = sorted((data / 'val').iterdir())[0]
    watch = ('demo/diffusion_demo.py', image, config, tmp_path / 'tiny.pth')
    steps = ('--cfg-options', 'model.test_cfg.sampling_steps=2')
    options = ('--out-dir', tmp_path / 'out', '--device', 'cpu', *steps)
    assert call_tool(monkeypatch, *watch, *options) == 0
    assert capsys.readouterr().out.count('wrote ') == 1
    name = tmp_path / 'out' / f'{image.stem}_diffusion'
    with Image.open(f'{name}.gif') as found, Image.open(f'{name}.png') as strip:
        # Before and after each step, and the result; the strip has noise, two steps, result.
        assert found.n_frames == 2 * 2 + 1
        assert strip.width == 4 * found.width + 3 * 6 and strip.height == found.height


def test_a_model_without_sampling_cannot_be_watched(tmp_path):
    with pytest.raises(ConfigError, match='Linear does not sample boxes'):
        trace_diffusion(torch.nn.Linear(2, 2), tmp_path / 'a.png')


def test_the_watching_demo_refuses_a_wrong_score(monkeypatch, capsys):
    arguments = ('a.png', 'b.py', 'c.pth', '--score-thr', 3)
    assert call_tool(monkeypatch, 'demo/diffusion_demo.py', *arguments) == 2
    assert 'between 0 and 1' in capsys.readouterr().err
