"""browse_dataset and write_sample: one run, wrong uses."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'


def _run(tool, *arguments):
    return subprocess.run(
        [sys.executable, TOOLS / tool, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def _main(tool, monkeypatch, *arguments):
    """Run a tool in this process: one start of the stack is enough."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    return runpy.run_path(str(TOOLS / tool))['main']()


def test_a_written_sample_can_be_browsed(tmp_path, monkeypatch, capsys):
    sample = tmp_path / 'sample'
    arguments = [sample, '--num-train', 3, '--num-val', 2]
    monkeypatch.setattr(sys, 'argv', ['write_sample.py', *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / 'misc' / 'write_sample.py'), run_name='__main__')
    assert ended.value.code == 0
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'sample_instance.py'

    def arguments_of(split):
        options = f'{split}_dataloader.dataset.data_root={sample}'
        out = ['--output-dir', tmp_path / split, '--split', split]
        return [base, *out, '--num', 4, '--not-show', '--cfg-options', options]

    done = _run('browse_dataset.py', *arguments_of('train'))
    assert done.returncode == 0, done.stderr
    assert '3 samples drawn' in done.stdout
    _main('browse_dataset.py', monkeypatch, *arguments_of('val'))
    assert '2 samples drawn' in capsys.readouterr().out
    for split, count in (('train', 3), ('val', 2)):
        assert len(list((tmp_path / split).glob('*.jpg'))) == count + 1


def test_written_videos_can_be_browsed_clip_by_clip(tmp_path, monkeypatch, capsys):
    sample = tmp_path / 'videos'
    arguments = (sample, '--format', 'youtube_vis', '--num-train', 2, '--num-val', 1)
    assert _main('misc/write_sample.py', monkeypatch, *arguments) == 0
    assert '2 training and 1 validation videos' in capsys.readouterr().out
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'sample_video.py'
    import cv2

    for split, name in (('train', 'video_1_from_'), ('val', 'video_1_from_0')):
        options = f'{split}_dataloader.dataset.data_root={sample}'
        out = ['--output-dir', tmp_path / split, '--split', split, '--num', 1]
        _main('browse_dataset.py', monkeypatch, base, *out, '--cfg-options', options)
        assert '1 samples drawn' in capsys.readouterr().out
        drawn = sorted(path.name for path in (tmp_path / split).glob('*.jpg'))
        assert len(drawn) == 2 and drawn[0].startswith(f'0000_{name}')
        sheet = cv2.imread(str(tmp_path / split / 'contact_sheet.jpg'))
        assert sheet.shape[1] > 1000  # a row of frames fills the width


def test_the_sample_can_be_written_with_label_images(tmp_path, monkeypatch):
    arguments = (tmp_path / 's', '--format', 'semantic', '--num-train', 1, '--num-val', 1)
    assert _main('misc/write_sample.py', monkeypatch, *arguments) == 0
    assert (tmp_path / 's' / 'labels' / 'val' / '000000.png').is_file()


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('browse_dataset.py', ['absent.py'], 'absent.py'),
        ('browse_dataset.py', ['x.py', '--num', '0'], 'at least 1'),
        ('misc/write_sample.py', [str(ROOT / 'configs')], 'not written by the sample generator'),
    ],
)
def test_wrong_commands_end_with_2(tool, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('tool', ['browse_dataset.py', 'check_dataset.py', 'misc/write_sample.py'])
def test_help_is_quick_and_complete(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    assert ended.value.code == 0
    assert 'usage:' in capsys.readouterr().out


def _semantic_config(folder, dataset):
    from tests.data.deepglobe_fake.make import make
    from tests.engine import toy_segmentor

    make(folder / 'data')
    return toy_segmentor.write_config(folder, folder / 'data', dataset)


_WITHOUT_LABELS = """
bare = dict(
    **data, test_mode=True, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')],
    data_prefix=dict(img_path='img_dir/val', seg_map_path='rgb2id/val'))
val_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[bare, bare])
"""


@pytest.mark.parametrize('split', ['train', 'val'])
def test_class_maps_can_be_browsed_also_of_joined_data_without_labels(
    tmp_path, monkeypatch, capsys, split
):
    import cv2

    config = _semantic_config(tmp_path, _WITHOUT_LABELS)
    words = ('--split', split, '--num', 2, '--output-dir', tmp_path / 'out')
    _main('browse_dataset.py', monkeypatch, config, *words)
    assert '2 samples drawn' in capsys.readouterr().out
    first = sorted((tmp_path / 'out').glob('0000_*.jpg'))
    picture = cv2.imread(str(first[0]))
    assert picture.shape[0] > 384 and picture.std() > 10  # with a caption and a legend
