"""ISDNet through the real tools: train, resume, evaluate, mirrored views, speed."""

import json

import pytest

from tests.tools.in_process import call_tool


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
        train = ('tools/train.py', config, '--work-dir', work_dir, '--seed', 0)
        assert call_tool(patch, *train) == 0
        more = ('--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3')
        assert (
            call_tool(patch, *train, '--resume', 'auto', '--allow-config-change', '--amp', *more)
            == 0
        )
    return work_dir / 'iter_3.pth'


def test_train_resume_and_evaluate(config, trained, tmp_path, monkeypatch, capsys):
    test = ('tools/test.py', config, trained, '--work-dir', tmp_path)
    assert call_tool(monkeypatch, *test, '--eval', 'mIoU', '--show-dir', tmp_path / 's') == 0
    assert 'mIoU_wo_unknown' in capsys.readouterr().out
    assert len(list((tmp_path / 's').rglob('*.*'))) == 4
    assert call_tool(monkeypatch, *test, '--tta') == 0


def test_the_speed_tool_measures_it(config, trained, tmp_path, monkeypatch):
    out = tmp_path / 'fps.json'
    size = ('--height', 40, '--width', 56, '--warmup', 0, '--iters', 1, '--out', out)
    for protocol in ('network', 'model', 'end-to-end'):
        arguments = (config, trained, *size, '--protocol', protocol)
        assert call_tool(monkeypatch, 'tools/fps_test.py', *arguments) == 0
        assert json.loads(out.read_text())['input_hw'] == [40, 56]
