"""Resuming as something else is refused, or explained and done when it is asked for."""

import pytest

from isda_suite.apis.train import train
from isda_suite.engine.errors import ConfigError
from tests.engine.toy import write_coco, write_config
from tests.tools.running import ROOT, run

SCHEDULE = (
    "param_scheduler = [dict(type='MultiStepLR', milestones=[3], by_epoch=False, gamma=0.1)]\n"
)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'), SCHEDULE)


@pytest.fixture(scope='module')
def half(config, tmp_path_factory):
    """Give the checkpoint after two of four iterations."""
    folder = tmp_path_factory.mktemp('half')
    train(config, work_dir=folder)
    return folder / 'iter_2.pth'


def test_another_model_or_optimizer_is_refused_with_the_difference(config, half, tmp_path):
    options = {'optim_wrapper.optimizer.lr': 0.1, '+model.dropout': 0.5}
    with pytest.raises(ConfigError) as error:
        train(config, tmp_path, resume=half, cfg_options=options)
    assert 'optim_wrapper.optimizer.lr: 0.5 -> 0.1' in str(error.value)
    assert 'model.dropout: - -> 0.5' in str(error.value)
    assert '--allow-config-change' in str(error.value)
    runner = train(config, tmp_path, resume=half, cfg_options=options, allow_config_change=True)
    assert runner.iter == 4


def test_other_changes_are_listed_and_allowed(config, half, tmp_path):
    options = {'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 3}
    runner = train(config, tmp_path, resume=half, cfg_options=options)
    log = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert runner.iter == 6
    assert 'train_cfg.max_iters: 4 -> 6' in log
    assert 'default_hooks.checkpoint.interval: 2 -> 3' in log


def test_another_batch_size_is_refused_or_scales_the_rate(config, half, tmp_path):
    options = {'train_dataloader.batch_size': 1}
    with pytest.raises(ConfigError, match=r'1 processes of 2 images each, this run has 1 of 1'):
        train(config, tmp_path, resume=half, cfg_options=options)
    runner = train(config, tmp_path, resume=half, cfg_options=options, allow_world_size_change=True)
    rates = runner.message_hub.get_scalar('train/lr').data[0]
    assert rates[-2:].tolist() == pytest.approx([0.25, 0.025])  # half of 0.5, then the step down
    log = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert '0.5 times the images' in log and '[0.25]' in log


@pytest.fixture(scope='module')
def two_ranks(config, tmp_path_factory):
    """Train on two ranks through dist_train.sh; returns a function and the whole curve."""
    folder = tmp_path_factory.mktemp('ranks')

    def start(name, send_at=None, *more):
        losses = folder / name / 'losses.txt'
        hook = f"[dict(type='LossFile', path='{losses}', send_at={send_at}, rank=1)]"
        text = config.read_text() + f'custom_hooks = {hook}\n'
        (folder / name).mkdir(exist_ok=True)
        (folder / name / 'c.py').write_text(text)
        command = [ROOT / 'tools/dist_train.sh', folder / name / 'c.py', 2]
        done = run(*command, '--work-dir', folder / name, '--seed', 1, '--resume', *more)
        return done, dict(line.split() for line in losses.read_text().splitlines())

    return start, folder


@pytest.mark.ranks
def test_a_signal_to_one_rank_stops_both_after_the_same_step(two_ranks, config):
    start, folder = two_ranks
    done, whole = start('whole')
    assert done.returncode == 0, done.stderr
    done, part = start('stopped', 1)
    assert done.returncode == 75, done.stderr
    assert list(part) == ['0', '1'] and 'after iteration 2' in done.stderr
    assert (folder / 'stopped/preempted').is_file()
    with pytest.raises(ConfigError, match='2 processes of 2 images each, this run has 1 of 2'):
        train(config, folder / 'stopped', resume='auto', seed=1)
    done, rest = start('stopped')
    assert done.returncode == 0, done.stderr
    assert rest == whole
