"""A run that was killed ends with the losses of the run that never stopped, bit for bit."""

import random
import signal

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from isda_suite.apis.train import train
from isda_suite.engine.counted_randomness import PositionedIndex, count_samples, seed_everything
from isda_suite.engine.errors import PreemptedError
from tests.engine.toy import KilledError, write_coco, write_config

ITERATIONS = 12
RANDOM = """
model['dropout'] = 0.5
train_pipeline.insert(2, dict(type='RandomFlip', prob=0.5))
train_pipeline.insert(3, dict(type='PhotoMetricDistortion'))
train_dataloader['dataset']['pipeline'] = train_pipeline
train_dataloader['sampler']['shuffle'] = True
"""
LOOPS = {
    'iterations': """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=5)
""",
    'iterations, sampler with an end': """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100)
train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)
""",
    'batches of one shape': """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100)
train_dataloader['batch_sampler'] = dict(type='AspectRatioBatchSampler')
""",
    'epochs': """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=100)
train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)
default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1)
""",
}
WORKERS = 'train_dataloader.update(num_workers=2, persistent_workers=True)\n'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('toy') / 'data', num_images=6)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """mmengine waits two seconds whenever a sampler starts over."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)


def curve(config, folder, seed=3, kills=()):
    """Train through kills; return what each iteration's loss was when it was last computed."""
    losses = folder / 'losses.txt'
    for die_at in (*kills, None):
        hook = dict(type='LossFile', path=str(losses), die_at=die_at)
        options = {'custom_hooks': [hook]}
        try:
            train(config, folder / 'w', resume='auto', seed=seed, cfg_options=options)
        except KilledError:
            assert die_at is not None
    found = dict(line.split() for line in losses.read_text().splitlines())
    assert [int(key) for key in found] == list(range(ITERATIONS))
    return found


@pytest.mark.parametrize('loop', LOOPS)
def test_a_killed_run_continues_the_curve(data, tmp_path, loop):
    config = write_config(tmp_path, data, RANDOM + LOOPS[loop] + 'custom_hooks = []\n')
    whole = curve(config, tmp_path / 'whole')
    assert len(set(whole.values())) == ITERATIONS
    assert curve(config, tmp_path / 'killed', kills=(5, 9)) == whole
    config.write_text(config.read_text() + WORKERS)
    assert curve(config, tmp_path / 'workers', kills=(7,)) == whole


def test_a_preempted_run_goes_on_in_the_middle_of_its_epoch(data, tmp_path):
    config = write_config(tmp_path, data, RANDOM + LOOPS['epochs'] + 'custom_hooks = []\n')
    whole = curve(config, tmp_path / 'whole')
    folder = tmp_path / 'stopped'
    hook = dict(type='LossFile', path=str(folder / 'losses.txt'), send_at=4)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError, match=r'SIGTERM after iteration 5, saved as .*--resume'):
        train(config, folder / 'w', seed=3, cfg_options={'custom_hooks': [hook]})
    assert signal.getsignal(signal.SIGTERM) is before
    assert (folder / 'w/preempted').is_file()
    assert (folder / 'w/last_checkpoint').read_text() == 'preempted.pth'
    assert len((folder / 'losses.txt').read_text().splitlines()) == 5
    assert curve(config, folder) == whole
    # The next ordinary checkpoint takes the place of the one in between.
    assert not (folder / 'w/preempted.pth').exists() and not (folder / 'w/preempted').exists()


def test_a_signal_during_validation_is_heard_before_its_end(data, tmp_path):
    config = write_config(tmp_path, data, LOOPS['iterations'] + 'custom_hooks = []\n')
    hook = dict(type='SignalInValidation')
    with pytest.raises(PreemptedError, match='after iteration 5'):
        train(config, tmp_path / 'w', seed=3, cfg_options={'custom_hooks': [hook]})
    assert train(config, tmp_path / 'w', resume='auto', seed=3).iter == ITERATIONS


def test_a_run_without_a_seed_resumes_with_the_one_it_drew(data, tmp_path):
    config = write_config(tmp_path, data, RANDOM + LOOPS['iterations'] + 'custom_hooks = []\n')
    config.write_text(config.read_text().replace('randomness = dict(seed=0)', ''))
    first = curve(config, tmp_path / 'a', seed=None, kills=(5,))
    lines = (tmp_path / 'a/losses.txt').read_text().splitlines()
    repeated = [line for line in lines if line.startswith('4 ')]
    assert len(repeated) == 2 and len(set(repeated)) == 1
    assert first != curve(config, tmp_path / 'b', seed=None)


class _Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random.random(), np.random.rand(), float(torch.rand(()))


def test_augmentations_differ_between_epochs_and_not_with_workers():
    epochs = []
    for workers, persistent in ((0, False), (2, False), (2, True)):
        torch.manual_seed(0)
        inner = DataLoader(
            _Numbers(),
            batch_sampler=BatchSampler(RandomSampler(range(4)), 2, False),
            num_workers=workers,
            persistent_workers=persistent,
        )
        loader = count_samples(inner, seed=1, rank=0, world_size=1)
        epochs.append([torch.stack(batch) for _ in range(3) for batch in loader])
    assert all(
        torch.equal(a, b) for other in epochs[1:] for a, b in zip(epochs[0], other, strict=True)
    )
    drawn = torch.cat(epochs[0], dim=1).flatten().tolist()
    assert len(set(drawn)) == len(drawn) == 3 * 4 * 3


def test_loading_in_the_main_process_leaves_the_generators_of_the_step_alone():
    inner = DataLoader(_Numbers(), batch_size=2)
    loader = count_samples(inner, seed=1, rank=0, world_size=1)
    seed_everything(5)
    undisturbed = random.random(), np.random.rand(), float(torch.rand(()))
    seed_everything(5)
    loader.dataset[PositionedIndex(1, 7)]
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == undisturbed


def test_every_rank_draws_its_own_numbers():
    drawn = set()
    for rank in range(2):
        inner = DataLoader(_Numbers(), batch_size=2)
        loader = count_samples(inner, seed=1, rank=rank, world_size=2)
        drawn.update(value for batch in loader for value in torch.stack(batch).flatten().tolist())
    assert len(drawn) == 2 * 4 * 3
