"""The tool that shows responses, on a tiny ISDA, plain and with IUQ."""

import json

import cv2
import pytest
import torch

from isda_suite.apis.model import load_model
from tests.engine.toy import write_coco
from tests.engine.toy import write_config as write_toy
from tests.methods.iuq.build import model_of
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'tools/misc/show_responses.py'


@pytest.fixture(scope='module')
def weights(config):
    """Return files of two sets of weights; the wrapper's are those of the plain detector."""
    files = []
    for seed, name in enumerate(('iuq_tiny.py', 'plain.py')):
        torch.manual_seed(seed)
        model = load_model(config.with_name(name), device='cpu')
        files.append(config.with_name(f'{seed}.pth'))
        torch.save({'state_dict': model.state_dict(), 'iuq_state': {'steps': 3}}, files[-1])
    return files


@pytest.fixture
def show(monkeypatch, capsys, tmp_path):
    def run(*arguments):
        code = call_tool(
            monkeypatch, TOOL, *arguments, '--out-dir', tmp_path / 'o', '--device', 'cpu'
        )
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err, captured.err[-3000:]
        return code, captured.out + captured.err

    return run


def _written(tmp_path):
    return [(tmp_path / 'o' / f'responses.{kind}').read_bytes() for kind in ('png', 'json')]


def test_two_checkpoints_side_by_side_with_either_configuration(config, weights, show, tmp_path):
    arguments = [
        '--checkpoint',
        weights[0],
        '--compare',
        weights[1],
        '--split',
        'train',
        '--queries',
        '1',
    ]
    code, said = show(config, *arguments, '--names', 'plain', 'IUQ')
    assert code == 0, said
    picture, text = _written(tmp_path)
    report = json.loads(text)
    assert [one['name'] for one in report['models']] == ['plain', 'IUQ']
    assert report['models'][0]['adapter'] == 'ISDAAdapter' and report['images'] == 4
    first, second = (one['foreign'] for one in report['models'])
    assert first['pixels'] == second['pixels'] > 0 and first['mean'] != second['mean']
    assert f'{first["mean"]:.4f}' in said and f'{second["mean"]:.4f}' in said
    # Images without instances have no queries, but are asked.
    assert {one['image'] for one in report['shown']} == {0, 2}
    assert report['shown'][0]['others'] == [1, 2, 3]
    decoded = cv2.imread(str(tmp_path / 'o/responses.png'))
    rows = len(report['shown'])
    assert decoded.shape[0] == 24 + rows * 224 + (rows - 1) * 4 + 16 + 36
    assert decoded.shape[1] == 200 + 2 * (16 + 4 * 200 + 3 * 4)
    plain = config.with_name('plain.py')
    code, said = show(plain, *arguments, '--names', 'plain', 'IUQ')
    assert code == 0, said
    assert _written(tmp_path) == [picture, text]


def test_the_test_pipeline_and_chosen_instances(config, weights, show, tmp_path):
    chosen = ['--images', '1', '--instances', '0', '--others', '1', '--hardest']
    code, said = show(config, '--checkpoint', weights[0], *chosen)
    assert code == 0, said
    report = json.loads(_written(tmp_path)[1])
    assert report['split'] == 'val' and report['images'] == 2
    (shown,) = report['shown']
    assert (shown['image'], shown['instance'], shown['others']) == (1, 0, [0])
    assert report['models'][0]['name'].endswith('/0.pth')


@pytest.mark.parametrize(
    ('arguments', 'remedy'),
    [
        (('--images', '0', '2', '-1'), 'image 2, -1: the val data have 2 images, numbered from 0'),
        (('--images', '0', '--instances', '99'), 'instance 99: image 0'),
        (('--adapter', 'Mine'), "'Mine' does not exist. Registered adapters"),
        (('--cfg-options', '+val_dataloader=None'), 'has no val_dataloader'),
        (('--cfg-options', 'val_dataloader.dataset.pipeline=[]'), 'end with PackDetInputs'),
    ],
)
def test_wrong_choices_end_with_code_2(config, weights, show, tmp_path, arguments, remedy):
    code, said = show(config, '--checkpoint', weights[0], *arguments)
    assert code == 2, said
    assert remedy in said
    assert not (tmp_path / 'o').exists()


def test_a_checkpoint_of_another_model_is_refused(config, weights, show, tmp_path):
    content = torch.load(weights[0], weights_only=False)
    content['state_dict'] = {f'x.{k}': v for k, v in content['state_dict'].items()}
    torch.save(content, tmp_path / 'other.pth')
    code, said = show(config, '--checkpoint', weights[0], '--compare', tmp_path / 'other.pth')
    assert code == 2 and 'other.pth: ' in said and '219 missing' in said
    code, said = show(config, '--checkpoint', tmp_path / 'missing.pth')
    assert code == 2 and 'missing.pth' in said


def test_a_detector_of_a_project_is_shown_by_its_configuration(config, show, tmp_path):
    """SparseInst is found by the name of its class, whose module the configuration names."""
    file = tmp_path / 'sparse.py'
    imports = "custom_imports = dict(imports=['tests.methods.iuq.sparse_inst'])\n"
    model = model_of('sparseinst').to_dict()
    model['decoder']['num_classes'] = model['criterion']['num_classes'] = 5
    text = f'_base_ = [{str(config)!r}]\n{imports}model = dict(_delete_=True, **{model!r})\n'
    file.write_text(text)
    code, said = show(file, '--split', 'train', '--queries', '1', '--others', '1')
    assert code == 0, said
    report = json.loads(_written(tmp_path)[1])
    assert report['models'][0]['adapter'] == 'SparseInstAdapter'
    assert report['models'][0]['foreign']['pixels'] > 0 and report['shown']


def test_a_head_without_adapter_gets_the_list(show, tmp_path):
    toy = write_toy(tmp_path, write_coco(tmp_path / 'data'))
    code, said = show(toy)
    assert code == 2, said
    assert 'no adapter fits any of' in said and 'CondInstAdapter' in said


def test_arguments_are_checked_before_anything_is_loaded():
    assert run_python(TOOL, '--help', timeout_s=5).returncode == 0
    for wrong in (
        ['a.py', '--queries', '0'],
        ['a.py', '--compare-config', 'b.py'],
        ['a.py', '--names', 'a', 'b'],
        ['a.py', '--split', 'all'],
    ):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and 'error' in done.stderr
