"""check_dataset: tables, images, exit codes."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.coco_fake.make import make

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'check_dataset.py'


def _config(folder, ann_file='annotations/instances_train.json', classes=('cat', 'dog')):
    path = folder / 'config.py'
    path.write_text(
        "default_scope = 'mmdet'\n"
        'train_dataloader = dict(dataset=dict(\n'
        "    type='isda_suite.CocoInstanceDataset', data_prefix=dict(img='train/'),\n"
        f'    metainfo=dict(classes={classes!r}), ann_file={ann_file!r},\n'
        f'    data_root={str(folder)!r}))\n'
        'val_dataloader = train_dataloader\n'
    )
    return path


def _run(*arguments):
    return subprocess.run(
        [sys.executable, TOOL, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120
    )


def test_everything_fatal_is_listed_and_the_exit_code_is_3(tmp_path):
    make(tmp_path, lambda content: content['annotations'][2].update(id=1))
    done = _run(_config(tmp_path, classes=('cat', 'dogs')))
    assert done.returncode == 3
    assert 'annotation id 1 stands 2 times' in done.stdout
    assert "class 'dogs' of the config" in done.stdout
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--images', 'absent.py'], 'absent.py'), (['--split', 'tset', 'x.py'], 'invalid choice')],
)
def test_wrong_commands_end_with_2(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_sound_and_broken_images_and_missing_files(tmp_path, monkeypatch, capsys):
    main = runpy.run_path(str(TOOL))['main']

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        code = main()
        return code, capsys.readouterr().out

    make(tmp_path)
    config = _config(tmp_path)
    code, text = run(config, '--images')
    assert code == 0
    assert '3  images decoded' in text
    assert '1  note: crowd region' in text
    assert '== val' not in text
    (tmp_path / 'train' / '1.jpg').write_bytes(b'<html>')
    assert run(config)[0] == 0
    code, text = run(config, '--images')
    assert code == 3
    assert 'error: image broken' in text
    assert 'text, not an image' in text
    (tmp_path / 'train' / '1.jpg').unlink()
    code, text = run(config)
    assert (code, 'image missing' in text) == (3, True)
    code, text = run(_config(tmp_path, ann_file='absent.json'))
    assert code == 2
    assert 'no annotation file' in text
