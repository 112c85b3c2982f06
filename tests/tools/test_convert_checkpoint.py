import pytest
import torch

from isda_suite.apis.model import build_model
from tests.apis.tiny_isda import start_checkpoint, write_isda_config
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'tools/convert_checkpoint.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp('convert')
    torch.manual_seed(0)
    state = build_model(write_isda_config(where, num_classes=3)).state_dict()
    torch.save({'state_dict': start_checkpoint(state)}, where / 'start.pth')
    return where


def test_the_counts_are_printed_and_the_file_is_written(files, tmp_path):
    command = [files / 'start.pth', tmp_path / 'ours.pth', '--method', 'isda']
    done = run_python(TOOL, *command, '--config', files / 'isda.py')
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line}
    total = len(build_model(files / 'isda.py').state_dict())
    assert lines['style'] == 'mmdet2-deformable-detr'
    assert int(lines['filled']) + int(lines['new']) == total
    assert lines['unused'] == '4'
    state = torch.load(tmp_path / 'ours.pth')['state_dict']
    assert len(state) == int(lines['filled']) and 'level_embed' in state


def test_help_and_wrong_arguments_need_no_libraries(tmp_path):
    assert run_python(TOOL, '--help', timeout_s=5).returncode == 0
    for wrong in (['a.pth', 'b.pth'], ['a.pth', 'b.pth', '--method', 'isda', '--num-classes', 'x']):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and 'error' in done.stderr


def test_faults_end_with_code_2_and_write_nothing(files, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out.pth'
    torn = tmp_path / 'torn.pth'
    torn.write_bytes((files / 'start.pth').read_bytes()[:5000])
    cases = {
        'known: defvistr, idip, isda': [files / 'start.pth', out, '--method', 'yolo'],
        'does not exist': [files / 'absent.pth', out, '--method', 'isda'],
        '5000 bytes': [torn, out, '--method', 'isda'],
        "names are those of 'mmdet2": [
            files / 'start.pth', out, '--method', 'isda', '--style', 'mmdet3-deformable-detr'
        ],
    }  # fmt: skip
    for message, arguments in cases.items():
        assert call_tool(monkeypatch, TOOL, *arguments) == 2
        errors = capsys.readouterr().err
        assert message in errors and 'Traceback' not in errors
    assert not out.exists()
