import re
import sys

import pytest

from isda_suite.cli import _COMMANDS, main
from tests.tools.running import run


def test_help_and_version(capsys):
    assert main([]) == main(['--help']) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ('train', 'check-data', 'print-config', 'predict'))
    assert main(['--version']) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_messages_name_the_program_that_was_called(capsys, monkeypatch):
    assert main(['--help']) == 0
    assert capsys.readouterr().out.startswith('usage: python -m isda_suite COMMAND')
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/isda'])
    assert main(['--help']) == 0
    assert capsys.readouterr().out.startswith('usage: isda COMMAND')


def test_the_help_loads_nothing_heavy():
    code = 'import sys; from isda_suite.cli import main; main(["--help"]); '
    code += "print([m for m in ('torch', 'mmengine', 'numpy', 'cv2') if m in sys.modules])"
    done = run(sys.executable, '-c', code, timeout_s=20)
    assert done.stdout.splitlines()[-1] == '[]', done.stderr


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(['trian']) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_a_command_runs_its_script_with_its_arguments(capsys):
    before = list(sys.argv)
    assert main(['print-config', 'isda_r50_3x_coco', '--safe']) == 0
    assert 'isda_suite.ISDA' in capsys.readouterr().out
    assert main(['print-config', 'absent']) == 2
    assert sys.argv == before


def test_a_missing_script_is_explained(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr('isda_suite.cli.resource_root', lambda: tmp_path)
    assert main(['train']) == 2
    assert 'install isda_suite again' in capsys.readouterr().err


def test_the_package_runs_as_a_program():
    done = run(sys.executable, '-m', 'isda_suite', 'train', '--help', timeout_s=5)
    assert done.returncode == 0
    assert '--auto-scale-lr' in done.stdout
    assert done.stdout.startswith('usage: python -m isda_suite train ')


@pytest.mark.parametrize('command', sorted(_COMMANDS))
def test_every_command_explains_itself_under_its_own_name(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/isda'])
    monkeypatch.setenv('COLUMNS', '400')
    assert main([command, '--help']) == 0
    text = capsys.readouterr().out
    assert text.startswith(f'usage: isda {command} ')
    unexplained = re.findall(r'^  (?! )((?:(?!  ).)+)$(?!\n {8})', text, re.MULTILINE)
    assert not unexplained, 'arguments without a word about them'
    assert main([command, '--no-such-option']) == 2
    assert f'isda {command}: error: ' in capsys.readouterr().err
