import json

import pytest
import torch

from isda_suite.apis.model import load_model
from tests.apis.tiny_models import SEGMENTOR, write_config
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'tools/fps_test.py'
SIZE = ('--height', 64, '--width', 64)


def test_a_run_prints_and_writes_the_numbers(tmp_path):
    config = write_config(tmp_path)
    out = tmp_path / 'new' / 'speed.json'
    command = [config, *SIZE, '--warmup', 1, '--iters', 3, '--device', 'cpu', '--out', out]
    done = run_python(TOOL, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'images per second' in done.stdout and 'random weights' in done.stdout
    report = json.loads(out.read_text())
    assert report['settings']['iters'] == 3 and report['input_hw'] == [64, 64]
    assert report['fps'] == pytest.approx(1000 / report['time_ms']['median'])
    assert report['environment']['threads'] == 1  # OMP_NUM_THREADS of the process
    assert report['memory_mb']['process_peak'] > report['memory_mb']['process_before_model'] > 0
    assert sorted(p.name for p in out.parent.iterdir()) == ['speed.json']


def test_help_and_wrong_arguments_need_no_libraries():
    done = run_python(TOOL, '--help', timeout_s=5)
    assert done.returncode == 0 and '{network,model,end-to-end,full,paper}' in done.stdout
    for wrong in (['a.py', '--height', 0], ['a.py', '--protocol', 'all'], []):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and 'error' in done.stderr


def test_options_reach_the_measurement(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, SEGMENTOR)
    out = tmp_path / 'speed.json'
    options = ['--protocol', 'paper', '--warmup', 0, '--iters', 2, '--fuse', '--channels-last']
    command = [config, *SIZE, *options, '--device', 'cpu', '--out', out]
    assert not call_tool(monkeypatch, TOOL, *command)
    settings = json.loads(out.read_text())['settings']
    assert (settings['protocol'], settings['warmup'], settings['iters']) == ('paper', 0, 2)
    assert settings['fused'] and settings['channels_last']
    assert "ISDNet's authors" in capsys.readouterr().out


def test_faults_end_with_code_2_and_one_line(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)
    cases = {
        'no configuration': ['absent.py'],
        'absent.pth does not exist': [config, tmp_path / 'absent.pth'],
        'torch sees': [config, '--device', 'cuda:99'],
    }
    for message, arguments in cases.items():
        assert call_tool(monkeypatch, TOOL, *arguments, *SIZE) == 2
        errors = capsys.readouterr().err
        assert message in errors and 'Traceback' not in errors


def test_weights_are_checked(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path)
    other = load_model(
        write_config(
            tmp_path, (config.read_text()).replace('num_classes=3', 'num_classes=7'), 'b.py'
        ),
        device='cpu',
    )
    torch.save({'state_dict': other.state_dict()}, tmp_path / 'other.pth')
    assert call_tool(monkeypatch, TOOL, config, tmp_path / 'other.pth', *SIZE) == 2
    assert '7 outputs in the checkpoint and 3 in the model' in capsys.readouterr().err
