import pytest
import torch

from tests.engine.toy import write_coco, write_config
from tests.tools.running import run_python, seconds_of_children


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


def test_help_comes_at_once():
    before = seconds_of_children()
    done = run_python('tools/train.py', '--help')
    assert done.returncode == 0
    assert '--auto-scale-lr' in done.stdout and 'Exit codes' in done.stdout
    assert seconds_of_children() - before < 2


def test_a_short_training_leaves_a_checkpoint(config, tmp_path):
    done = run_python(
        'tools/train.py', config, '--work-dir', 'w', '--amp', '--seed', 3, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'w/iter_4.pth').is_file()
    for noise in (
        # torch 2.4 gives one that no filter can hide, about its own optimizers.
        *([] if torch.__version__.startswith('2.4.') else ['DeprecationWarning']),
        'Could not import OneDL',
        "'pin_memory' argument",
        'FORCE_CUDA',
    ):
        assert noise not in done.stdout + done.stderr


def test_wrong_use_answers_two_and_names_the_remedy(config, tmp_path):
    cases = [
        (['--launcher', 'ssh'], 'invalid choice'),
        (['--cfg-options', 'tarin_dataloader.batch_size=8'], 'train_dataloader'),
        (['--resume', 'gone.pth', '--work-dir', 'w'], 'resume: gone.pth'),
    ]
    for arguments, remedy in cases:
        done = run_python('tools/train.py', config, *arguments, cwd=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert remedy in done.stderr
        assert 'Traceback' not in done.stderr
