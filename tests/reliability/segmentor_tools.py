"""Call the tools on the toy segmentor in a test's folder."""

from tests.engine.toy_segmentor import write_config
from tests.tools.in_process import call_tool


def caller(folder, data, monkeypatch, capsys):
    """Return a function that runs a tool and returns its exit code and all it said."""

    def run(script, *arguments, extra=''):
        monkeypatch.chdir(folder)
        config = write_config(folder, data, extra)
        work_dir = () if 'check' in script or 'browse' in script else ('--work-dir', 'w')
        code = call_tool(monkeypatch, script, config, *arguments, *work_dir)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out + captured.err

    return run
