import os
import re
import time

import pytest
import torch

from tests.engine.toy import write_coco, write_config
from tests.tools.gradients import first_gradients, largest_relative_difference
from tests.tools.running import ROOT, free_port, run

pytestmark = pytest.mark.ranks


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


def test_two_ranks_compute_the_gradients_of_one_with_twice_the_batch(config, tmp_path):
    double = 'model = dict(double=True)'  # rounding must not hide a wrong average
    two = first_gradients(config, tmp_path, ranks=2, batch_size=1, extra=double)
    one = first_gradients(config, tmp_path, ranks=1, batch_size=2, extra=double)
    assert largest_relative_difference(one, two) < 1e-5
    assert all(gradient.abs().max() > 0 for gradient in one.values())


def test_a_loss_that_is_not_finite_on_one_rank_stops_both_and_answers_four(config, tmp_path):
    options = ['+model.nan_at=2', '+model.nan_rank=1', 'default_hooks.checkpoint.interval=1']
    done = run(
        ROOT / 'tools/dist_train.sh',
        config,
        2,
        '--cfg-options',
        *options,
        cwd=tmp_path,
        PORT=str(free_port()),
    )
    assert done.returncode == 4, done.stderr[-3000:]
    assert 'error on rank 1: the loss' in done.stderr
    assert 'on another rank' in done.stderr
    saved = sorted(path.name for path in (tmp_path / 'work_dirs/toy').glob('*.pth'))
    assert saved == ['iter_1.pth']


def test_two_ranks_evaluate_every_image_once(config, tmp_path):
    from tests.engine.toy import ToySegmenter

    torch.manual_seed(0)
    torch.save({'state_dict': ToySegmenter(2).state_dict()}, tmp_path / 'start.pth')
    done = run(ROOT / 'tools/dist_test.sh', config, 'start.pth', 2, '--out', 'p.json', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'predictions of 4 images' in done.stdout
    assert done.stdout.count('coco/segm_mAP_50 ') == 1
    _assert_one_whole_report(config, tmp_path, done.stdout + done.stderr)


def _assert_one_whole_report(config, folder, said):
    """The first rank writes what both have seen, as one process that has seen everything."""
    from isda_suite.apis.test import evaluate
    from isda_suite.engine.config_file import read_config
    from tests.visualization.test_html_page import assert_self_contained

    [path] = folder.rglob('*.html')
    assert said.count('the report is in') == 1 and path.name == 'report.html'
    assert not [one for one in path.parent.iterdir() if 'report' in one.name and one != path]
    content = path.read_text(encoding='utf-8')
    assert_self_contained(content)
    assert content.rstrip().endswith('</html>') and content.count('<html') == 1
    assert '4 images, 8 annotated objects' in content
    cfg = read_config(config)
    evaluate(cfg, folder / 'start.pth', work_dir=folder / 'one', report='auto')
    alone = (folder / 'one/report.html').read_text(encoding='utf-8')
    titles = [re.findall('<h2[^>]*>(.*?)</h2>', one) for one in (content, alone)]
    assert titles[0] == titles[1] and 'Worst images' in titles[0]
    tables = [re.findall('<tr>.*?</tr>', _part(one, 'Classes')) for one in (content, alone)]
    assert tables[0] == tables[1] and len(tables[0]) == 3
    assert _part(content, 'Worst images').count('<img') == 2


def _part(content, title):
    [found] = re.findall(rf'<h2[^>]*>{title}</h2>(.*?)(?=<h2|</body)', content, re.DOTALL)
    return found


def test_wrong_use_answers_two(config, tmp_path):
    for script, arguments in [('dist_train.sh', [config]), ('dist_test.sh', [config, 'x.pth'])]:
        assert 'usage' in run(ROOT / 'tools' / script, *arguments).stderr
        assert run(ROOT / 'tools' / script, *arguments, 'two').returncode == 2
    done = run(ROOT / 'tools/dist_train.sh', 'absent.py', 0, cwd=tmp_path)
    assert done.returncode == 2, 'the code of the tool, not that of torchrun'
    assert 'there is no configuration absent.py' in done.stderr


def test_torchrun_gets_the_variables_of_several_machines(tmp_path):
    """A python on PATH that only notes its arguments stands in for the real one."""
    fake = tmp_path / 'python'
    fake.write_text('#!/bin/sh\necho "$@" >&2\n')
    fake.chmod(0o755)
    several = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'host0', 'PORT': '29777'}
    done = run(ROOT / 'tools/dist_train.sh', 'c.py', 8, PYTHON=str(fake), **several)
    for part in ('--nnodes=2', '--node_rank=1', '--master_addr=host0', '--master_port=29777'):
        assert part in done.stderr
    assert '--nproc_per_node=8' in done.stderr and '--standalone' not in done.stderr
    done = run(ROOT / 'tools/dist_train.sh', 'c.py', 2, PYTHON=str(fake))
    assert '--standalone' in done.stderr


def test_a_signal_ends_the_ranks(config, tmp_path):
    import signal
    import subprocess

    from tests.tools.running import environment

    script = tmp_path / 'sleep'
    script.write_text('#!/bin/sh\necho $$ > pid\nexec sleep 60\n')
    script.chmod(0o755)
    command = [str(ROOT / 'tools/dist_train.sh'), 'c.py', '1']
    started = subprocess.Popen(command, cwd=tmp_path, env=environment(PYTHON=str(script)))
    deadline = time.monotonic() + 20
    while not (tmp_path / 'pid').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'pid').read_text()), 0)
