"""The SLURM scripts against an srun that starts the tasks on this machine."""

import json
import sys

import pytest

from tests.engine.toy import write_coco, write_config
from tests.tools.running import ROOT, environment, free_port, run

pytestmark = pytest.mark.ranks
_SRUN = f"""#!{sys.executable}
import json, os, subprocess, sys

options, command = [], sys.argv[1:]
while command and command[0].startswith('-'):
    options.append(command.pop(0))
with open('srun.json', 'w') as file:
    json.dump([options, command], file)
if os.environ.get('SRUN_DRY'):
    sys.exit(0)
tasks = next(o.partition('=')[2] for o in options if o.startswith('--ntasks='))
fixed = {{'SLURM_NTASKS': tasks, 'SLURM_NODELIST': 'localhost', 'SLURM_NNODES': '1'}}
started = []
for rank in map(str, range(int(tasks))):
    own = {{'SLURM_PROCID': rank, 'SLURM_LOCALID': rank}}
    started.append(subprocess.Popen(command, env={{**os.environ, **fixed, **own}}))
sys.exit(max(one.wait() for one in started))
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


@pytest.fixture
def srun(tmp_path):
    """Run a script of tools/ with the stand-in on PATH; returns what it did and was asked for."""
    place = tmp_path / 'bin/srun'
    place.parent.mkdir()
    place.write_text(_SRUN)
    place.chmod(0o755)

    def call(script, *arguments, **variables):
        path = f'{place.parent}:{environment()["PATH"]}'
        done = run(ROOT / 'tools' / script, *arguments, cwd=tmp_path, PATH=path, **variables)
        asked = tmp_path / 'srun.json'
        return done, json.loads(asked.read_text()) if asked.exists() else None

    return call


def test_two_tasks_train_together(srun, config, tmp_path):
    port = free_port()
    done, (options, _) = srun(
        'slurm_train.sh',
        *('short', 'toy', config, 'w', '--options', f'dist_params.port={port}', '--seed', '1'),
        GPUS='2',
        GPUS_PER_NODE='0',
        CPUS_PER_TASK='1',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '--ntasks=2' in options and '--cpus-per-task=1' in options
    assert not any('gres' in option for option in options)
    assert (tmp_path / 'w/iter_4.pth').is_file()
    log = next((tmp_path / 'w').rglob('*.log')).read_text()
    assert "launcher = 'slurm'" in log and f'port={port}' in log
    assert done.stderr.count(f'now --cfg-options +env_cfg.dist_cfg.port={port}') == 1
    assert 'Iter(val) [2/2]' in log, 'each of two ranks sees half of the four images'


def test_a_configuration_with_its_own_port_takes_it(srun, config, tmp_path):
    """The other form of mmdet 2's README: `dist_params` in each of two jobs' configurations."""
    port = free_port()
    text = f"{config.read_text()}dist_params = dict(backend='nccl', port={port})\n"
    (tmp_path / 'config1.py').write_text(text)
    done, _ = srun(
        *('slurm_train.sh', 'short', 'toy', 'config1.py', 'w', '--seed', '1'),
        GPUS='1',
        GPUS_PER_NODE='0',
        CPUS_PER_TASK='1',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'port={port}' in done.stderr and 'env_cfg=dict(dist_cfg=' in done.stderr
    assert f'port={port}' in next((tmp_path / 'w').rglob('*.log')).read_text()


def test_the_test_script_hands_over_its_arguments(srun):
    done, (_, command) = srun(
        'slurm_test.sh', 'part', 'job', 'c.py', 'x.pth', '--eval', 'segm', SRUN_DRY='1'
    )
    assert done.returncode == 0, done.stderr
    assert command[-6:] == ['c.py', 'x.pth', '--launcher', 'slurm', '--eval', 'segm']
    assert command[-7].endswith('tools/test.py')


@pytest.mark.parametrize(
    ('variables', 'wanted'),
    [
        ({}, ['--gres=gpu:8', '--ntasks=8', '--ntasks-per-node=8', '--cpus-per-task=5']),
        ({'GPUS': '4'}, ['--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4']),
        ({'GPUS': '16'}, ['--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8']),
        ({'SRUN_ARGS': '--quotatype=auto --exclusive'}, ['--quotatype=auto', '--exclusive']),
    ],
)
def test_the_environment_says_what_srun_is_asked_for(srun, variables, wanted):
    done, (options, command) = srun(
        'slurm_train.sh', 'part', 'job', 'c.py', 'w', '--amp', SRUN_DRY='1', **variables
    )
    assert done.returncode == 0, done.stderr
    assert {'--partition=part', '--job-name=job', '--kill-on-bad-exit=1', *wanted} <= set(options)
    assert command[-7:] == ['c.py', '--work-dir', 'w', '--resume', '--launcher', 'slurm', '--amp']
    assert '-u' in command and '--signal=USR1@120' in options


@pytest.mark.parametrize('job', ['17', ''])
def test_a_preempted_job_goes_back_into_the_queue_and_goes_on(srun, config, tmp_path, job):
    scontrol = tmp_path / 'bin/scontrol'
    scontrol.write_text('#!/bin/sh\necho "$@" >> scontrol.txt\n')
    scontrol.chmod(0o755)
    tasks = 2 if job else 1  # the second says that the signal reaches the other task
    losses = str(tmp_path / 'losses.txt')
    hook = dict(type='LossFile', path=losses, send_at=1, rank=tasks - 1)
    text = config.read_text()
    (tmp_path / 'c.py').write_text(f'{text}custom_hooks = [{hook!r}]\n')
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w/preempted').touch()  # of an earlier job; says nothing about this one
    port = ('--options', f'dist_params.port={free_port()}')
    command = ('slurm_train.sh', 'short', 'toy', tmp_path / 'c.py', 'w', '--seed', '1', *port)
    variables = {'GPUS_PER_NODE': '0', 'CPUS_PER_TASK': '1', 'SLURM_JOB_ID': job}
    variables['GPUS'] = str(tasks)
    done, _ = srun(*command, **variables)
    assert done.returncode == 75, done.stderr
    asked = tmp_path / 'scontrol.txt'
    assert (asked.read_text().split() if job else asked.exists()) == (
        ['requeue', '17'] if job else False
    )
    if job:
        (tmp_path / 'c.py').write_text(text + 'custom_hooks = []\n')
        done, _ = srun(*command, **variables)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / 'w/iter_4.pth').is_file()
        assert len(asked.read_text().splitlines()) == 1


def test_the_code_of_the_tool_is_the_code_of_the_script(srun):
    few, _ = srun('slurm_train.sh', 'part', 'job', 'c.py')
    assert few.returncode == 2 and 'usage' in few.stderr
    wrong, _ = srun(
        *('slurm_test.sh', 'part', 'job', 'absent.py', 'x.pth'), GPUS='1', GPUS_PER_NODE='0'
    )
    assert wrong.returncode == 2
    assert 'there is no configuration absent.py' in wrong.stderr
