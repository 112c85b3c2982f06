import os

import pytest

from isda_suite.engine.errors import ConfigError, NonFiniteLossError
from isda_suite.engine.exit_codes import error_message, exit_code, run_tool


def _raiser(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (ConfigError('x'), 2),
        (NonFiniteLossError('x'), 4),
        (FileNotFoundError('x'), 2),
        (RuntimeError('x'), 1),
        (ValueError('x'), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_has_one_exit_code(error, code):
    assert run_tool(_raiser(error)) == code


def test_errors_of_data_and_checkpoints_are_recognised():
    from isda_suite.checkpoint.errors import UnsafeCheckpointError
    from isda_suite.datasets.errors import DataError

    assert exit_code(DataError('x')) == 3
    assert exit_code(UnsafeCheckpointError('x')) == 2


def test_a_tool_that_returns_nothing_is_done():
    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: 3) == 3


def test_a_user_error_prints_its_message_and_no_traceback(capsys):
    run_tool(_raiser(ConfigError('unknown key trian_cfg')))
    err = capsys.readouterr().err
    assert err == 'error: unknown key trian_cfg\n'


def test_debug_mode_adds_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv('ISDA_DEBUG', '1')
    run_tool(_raiser(ConfigError('unknown key')))
    assert 'Traceback' in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback(capsys):
    run_tool(_raiser(RuntimeError('surprise')))
    err = capsys.readouterr().err
    assert 'Traceback' in err
    assert 'surprise' in err


def test_a_worker_error_is_shown_without_the_workers_traceback():
    text = (
        'Caught ConfigError in DataLoader worker process 0.\nOriginal Traceback (most recent '
        'call last):\n  File "x.py", line 1\nisda_suite.engine.errors.ConfigError: image 7 is torn'
    )
    assert error_message(ConfigError(text)) == 'image 7 is torn'


def test_the_code_file_keeps_the_code_that_says_most(monkeypatch, tmp_path):
    place = tmp_path / 'code'
    monkeypatch.setenv('ISDA_EXIT_CODE_FILE', str(place))
    run_tool(_raiser(ConfigError('x')))
    run_tool(_raiser(RuntimeError('x')))
    assert place.read_text().strip() == '2'


@pytest.mark.parametrize(('before', 'after'), [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_that_wait_do_not_spin_unless_asked_to(monkeypatch, before, after):
    if before is None:
        monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    else:
        monkeypatch.setenv('OMP_WAIT_POLICY', before)
    assert run_tool(lambda: None) == 0
    assert os.environ['OMP_WAIT_POLICY'] == after
