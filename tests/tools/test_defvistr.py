"""DefVisTR through the tools that people use: generated videos to a drawn one."""

import json
import zipfile

import pytest

from isda_suite.apis.videos.source import open_video
from isda_suite.datasets.sample_video import write_sample_videos
from tests.tools.in_process import call_tool
from tests.tools.running import ROOT, free_port
from tests.tools.running import run as run_command

CONFIG = 'defvistr_sample'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A trained model: the folder of the run, the options that name the data."""
    folder = tmp_path_factory.mktemp('defvistr')
    root = write_sample_videos(folder / 'data', num_train=2, num_val=2, progress=False)
    options = [
        f'data_root={root}/', 'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False', 'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        arguments = [CONFIG, '--work-dir', folder / 'w', '--seed', 0, '--cfg-options', *options]
        short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=5']
        assert not call_tool(patch, 'tools/train.py', *arguments, *short)
    return folder, options


def test_training_leaves_a_checkpoint_and_a_curve(run):
    folder, _ = run
    assert (folder / 'w/iter_2.pth').is_file()
    (scalars,) = (folder / 'w').glob('*/vis_data/scalars.json')
    line = json.loads(scalars.read_text().splitlines()[0])
    assert {'loss_mask', 'loss_dice', 'd0.loss_cls', 'class_error'} <= set(line)


def test_evaluation_prints_the_official_numbers(run, monkeypatch, capsys, tmp_path):
    folder, options = run
    arguments = [CONFIG, folder / 'w/iter_2.pth', '--eval', 'segm', '--work-dir', tmp_path / 't']
    out = ['--out', tmp_path / 'found.json']
    tool = 'tools/test.py'
    assert not call_tool(monkeypatch, tool, *arguments, *out, '--cfg-options', *options)
    said = capsys.readouterr().out
    assert said.count('Average Precision') == 6 and said.count('Average Recall') == 6
    assert 'triangle' in said
    content = json.loads((tmp_path / 'found.json').read_text())
    assert len(content) == 2


def test_results_for_the_server_are_zipped(run, monkeypatch, tmp_path):
    folder, options = run
    arguments = [CONFIG, folder / 'w/iter_2.pth', '--format-only', '--work-dir', tmp_path / 't']
    # Everything that has a pixel counts: two steps of training teach little.
    more = [*options, 'model.test_cfg.mask_thr=0.01']
    assert not call_tool(monkeypatch, 'tools/test.py', *arguments, '--cfg-options', *more)
    (archive,) = (tmp_path / 't').rglob('*.zip')
    with zipfile.ZipFile(archive) as opened:
        entries = json.loads(opened.read('results.json'))
    assert {'video_id', 'score', 'category_id', 'segmentations'} >= set(
        entries[0] if entries else ()
    )


def test_a_folder_of_frames_is_drawn(run, monkeypatch, tmp_path):
    folder, _ = run
    frames = min((folder / 'data/valid/JPEGImages').iterdir())
    arguments = [CONFIG, folder / 'w/iter_2.pth', frames, '--out', tmp_path / 'drawn.mp4']
    assert not call_tool(monkeypatch, 'demo/video_demo.py', *arguments, '--device', 'cpu')
    assert len(list(open_video(tmp_path / 'drawn.mp4'))) == len(list(frames.iterdir()))


@pytest.mark.slow
@pytest.mark.ranks
def test_three_ranks_find_what_one_finds(run, tmp_path):
    """Three ranks for two videos: one has nothing to do."""
    folder, options = run
    found = {}
    for ranks in (1, 3):
        out = tmp_path / f'{ranks}.json'
        done = run_command(
            ROOT / 'tools/dist_test.sh', CONFIG, folder / 'w/iter_2.pth', ranks, '--eval', 'segm',
            '--out', out, '--work-dir', tmp_path / str(ranks), '--cfg-options', *options,
            'model.test_cfg.mask_thr=0.01',
            PORT=str(free_port()),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[ranks] = json.loads(out.read_text())
    assert found[1] == found[3] and len(found[1]) == 2
