"""How a tool's process ends: as Python ends, or, as a rank, without taking Python apart."""

import subprocess
import sys

import pytest

from isda_suite.engine.exit_codes import DONE, PREEMPTED, leave, run_tool
from tests.tools.running import ROOT, environment


def test_a_process_that_was_no_rank_ends_as_python_does():
    with pytest.raises(SystemExit) as stop:
        leave(run_tool(lambda: 3))
    assert stop.value.code == 3


@pytest.mark.ranks
@pytest.mark.parametrize('code', [DONE, PREEMPTED])
def test_a_rank_with_a_native_thread_ends_with_its_code_and_loses_nothing(code, tmp_path):
    """The thread aborts the process (SIGABRT) when it meets the end of Python."""
    script = [sys.executable, str(ROOT / 'tests/engine/lingering_rank.py'), str(tmp_path)]
    code_file = tmp_path / 'code'
    ranks = [
        subprocess.Popen(
            [*script, rank, str(code)],
            env=environment(ISDA_EXIT_CODE_FILE=str(code_file)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in '01'
    ]
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [code, code], said
    assert [out for out, _ in said] == ['printed\n'] * 2
    assert all(('stopped' in err) == (code == PREEMPTED) for _, err in said)
    assert code_file.exists() == (code != DONE)
    for rank in '01':
        assert (tmp_path / f'unclosed_{rank}').read_text() == 'all of it'
        assert (tmp_path / f'atexit_{rank}').exists()
        assert (tmp_path / f'thread_{rank}').exists()
    assert not list(tmp_path.glob('temporary*'))
