import pytest
import torch

from tests.engine.toy import ToySegmenter, write_coco, write_config
from tests.tools.running import run_python, seconds_of_children


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


@pytest.fixture(scope='module')
def checkpoint(config):
    torch.manual_seed(0)
    path = config.parent / 'start.pth'
    torch.save({'state_dict': ToySegmenter(2).state_dict()}, path)
    return path


def test_help_comes_at_once():
    before = seconds_of_children()
    done = run_python('tools/test.py', '--help')
    assert done.returncode == 0
    assert '--show-score-thr' in done.stdout
    assert seconds_of_children() - before < 2


def test_an_evaluation_prints_its_table(config, checkpoint, tmp_path):
    done = run_python(
        'tools/test.py', config, checkpoint, '--eval', 'segm', '--out', 'p.json', cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert 'coco/segm_mAP_50' in done.stdout
    assert (tmp_path / 'p.json').is_file()


def test_wrong_use_answers_two_and_names_the_remedy(config, checkpoint, tmp_path):
    cases = [
        ([], 'the following arguments are required'),
        ([config, 'absent.pth'], 'checkpoint: absent.pth'),
        ([config, checkpoint, '--out', 'p.txt'], 'must end with one of .json'),
    ]
    for arguments, remedy in cases:
        done = run_python('tools/test.py', *arguments, cwd=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert remedy in done.stderr
        assert 'Traceback' not in done.stderr
