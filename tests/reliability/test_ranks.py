"""A rank never waits for a rank that cannot come; two runs on one machine do not meet."""

import subprocess
import time

import pytest

from tests.engine.toy import write_coco, write_config
from tests.tools.running import ROOT, environment

pytestmark = pytest.mark.ranks


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('toy') / 'data')


def _start(folder, data, extra='', **variables):
    folder.mkdir()
    config = write_config(folder, data, extra)
    command = [ROOT / 'tools/dist_train.sh', config, 2, '--work-dir', folder / 'w', '--seed', 1]
    with (folder / 'output.txt').open('w') as output:
        return subprocess.Popen(
            [str(word) for word in command],
            env=environment(**variables),
            stdout=output,
            stderr=output,
        )


def test_two_runs_on_one_machine_of_which_one_loses_a_rank(data, tmp_path):
    hook = dict(type='LossFile', path=str(tmp_path / 'losses.txt'), send_at=2, send=0, rank=1)
    sound = _start(tmp_path / 'sound', data)
    dying = _start(tmp_path / 'dying', data, f'custom_hooks = [{hook!r}]\n')
    losses, seen = tmp_path / 'losses.txt', None
    while dying.poll() is None:
        if seen is None and losses.exists() and losses.read_text().count('\n') == 2:
            seen = time.monotonic()
        time.sleep(0.05)
    assert dying.returncode == 1
    assert time.monotonic() - (seen or 0) < 60, 'the other rank waited for the dead one'
    output = (tmp_path / 'dying/output.txt').read_text()
    assert 'exitcode' in output and ': 3' in output, 'torchrun names the rank and its code'
    assert (tmp_path / 'dying/w/iter_2.pth').is_file()
    assert sound.wait(timeout=240) == 0, (tmp_path / 'sound/output.txt').read_text()[-3000:]
    assert (tmp_path / 'sound/w/iter_4.pth').is_file()


def test_ranks_are_started_again_from_the_newest_checkpoint(data, tmp_path):
    losses = tmp_path / 'losses.txt'
    hook = dict(type='LossFile', path=str(losses), send_at=3, send=0, rank=1)
    run = _start(tmp_path / 'run', data, f'custom_hooks = [{hook!r}]\n', MAX_RESTARTS='1')
    assert run.wait(timeout=120) == 0, (tmp_path / 'run/output.txt').read_text()[-3000:]
    assert (tmp_path / 'run/w/iter_4.pth').is_file()
    # The third step was lost with the rank and repeated.
    assert [line.split()[0] for line in losses.read_text().splitlines()] == list('012') + list('23')
