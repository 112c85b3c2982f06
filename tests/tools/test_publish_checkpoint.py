import os
import shutil

import pytest
import torch
import yaml

from isda_suite.checkpoint.integrity import hex_digest
from isda_suite.checkpoint.safe_load import load_file
from tests.tools.in_process import ROOT, call_tool
from tests.tools.running import run_python

TOOL = 'tools/publish_checkpoint.py'


@pytest.fixture
def source(tmp_path):
    file = tmp_path / 'epoch_1.pth'
    content = {'meta': {'epoch': 1}, 'state_dict': {'a': torch.ones(3)}, 'optimizer': {'lr': 0.1}}
    torch.save(content, file)
    return file


def test_the_files_and_the_lines_for_the_metafile_are_printed(source, tmp_path):
    done = run_python(TOOL, source, tmp_path / 'out' / 'tiny')
    assert done.returncode == 0, done.stderr
    lines = yaml.safe_load(done.stdout.split('for metafile.yml:\n')[1])
    files = sorted((tmp_path / 'out').iterdir())
    assert lines['SHA256'] == {file.name: hex_digest(file) for file in files}
    assert [file.name for file in files if file.suffix == '.pth'] == [lines['Weights']]
    assert all(f'wrote {file} ({file.stat().st_size} bytes)' in done.stdout for file in files)


def test_the_metafile_of_the_method_takes_the_hashes(source, tmp_path, monkeypatch, capsys):
    metafile = tmp_path / 'metafile.yml'
    shutil.copy(ROOT / 'configs/isda/metafile.yml', metafile)
    before = yaml.safe_load(metafile.read_text())
    command = [source, tmp_path / 'out' / 'isda', '--metafile', metafile]
    command += ['--config-name', 'isda_r50_8xb1-36e_coco']
    assert call_tool(monkeypatch, TOOL, *command) == 0
    assert 'entered into isda_r50_8xb1-36e_coco' in capsys.readouterr().out
    after = yaml.safe_load(metafile.read_text())
    entry = next(one for one in after['Models'] if one['Name'] == 'isda_r50_8xb1-36e_coco')
    assert load_file(tmp_path / 'out' / entry.pop('Weights'))['meta'] == {'epoch': 1}
    assert len(entry.pop('SHA256')) == 2
    assert after == before


def test_wrong_use_ends_with_2_and_writes_nothing(source, tmp_path, monkeypatch, capsys):
    metafile = tmp_path / 'metafile.yml'
    metafile.write_text('Models: []\n')
    out = tmp_path / 'out' / 'a'
    for arguments, message in [
        ([tmp_path / 'absent.pth', out], 'absent.pth does not exist'),
        ([source, out, '--metafile', metafile], '--metafile and --config-name belong together'),
        ([source, tmp_path], 'is a folder'),
        ([source, out, '--metafile', metafile, '--config-name', 'b'], 'has 0 models'),
    ]:
        assert call_tool(monkeypatch, TOOL, *arguments) == 2
        errors = capsys.readouterr().err
        assert message in errors and 'Traceback' not in errors
    assert not out.parent.exists() or not os.listdir(out.parent)
    assert run_python(TOOL, '--help', timeout_s=5).returncode == 0
