"""What the tests of every method share."""

import pytest

from tests.tools.in_process import call_tool


@pytest.fixture
def train(config, tmp_path, monkeypatch, capsys):
    """Train the method's `config` for a step; returns the exit code and what was said."""

    def run(*options, config=config):
        arguments = ('--work-dir', tmp_path / 'w', '--cfg-options', 'train_cfg.max_iters=1')
        code = call_tool(monkeypatch, 'tools/train.py', config, *arguments, *options)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err, captured.err[-3000:]
        return code, captured.err

    return run
