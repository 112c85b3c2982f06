"""Runs benchmarks in this process, with what they would start as processes of their own."""

import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import torch

from benchmarks import side_by_side


@pytest.fixture(autouse=True)
def log_as_before():
    """Benchmarks silence the log of their process, which is also that of other tests here."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)


@pytest.fixture
def run_case(monkeypatch, tmp_path):
    """Return the function from a benchmark, the name of a case and arguments to its rows."""

    def run(module, case, *arguments):
        def run_here(command, **_):
            assert command[1] == module.__file__
            monkeypatch.setattr(sys, 'argv', command[1:])
            said = io.StringIO()
            with redirect_stdout(said):
                module.main()
            return subprocess.CompletedProcess(command, 0, said.getvalue())

        monkeypatch.setattr(side_by_side.subprocess, 'run', run_here)
        out = tmp_path / 'rows.json'
        command = [module.__file__, '--case', case, '--threads', torch.get_num_threads()]
        command += ['--out', out, *arguments]
        monkeypatch.setattr(sys, 'argv', [*map(str, command)])
        module.main()
        assert out.with_suffix('.md').read_text().startswith('# ')
        return json.loads(out.read_text())['rows']

    return run
