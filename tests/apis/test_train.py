"""Whole trainings of the toy segmenter in this process, so that the stack is loaded once."""

from pathlib import Path

import pytest
import torch

from isda_suite.apis.train import train
from isda_suite.engine.errors import ConfigError, NonFiniteLossError
from tests.engine.toy import write_coco, write_config


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    return train(config, work_dir=tmp_path_factory.mktemp('trained'), seed=0)


def _loss(runner):
    return runner.message_hub.get_scalar('train/loss').current()


def _weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def _same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_checkpoints_logs_and_tensorboard_events(trained):
    work_dir = Path(trained.work_dir)
    assert (work_dir / 'iter_4.pth').is_file()
    assert list(work_dir.rglob('events.out.tfevents.*'))
    assert 'segm_mAP' in next(work_dir.rglob('*.log')).read_text()


def test_the_loss_falls(config, tmp_path):
    runner = train(
        config,
        work_dir=tmp_path,
        cfg_options={'train_cfg.max_iters': 30, 'default_hooks.checkpoint.interval': 100},
    )
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert losses[-1] < 0.3 * losses[0]


def test_the_same_seed_gives_the_same_weights(trained, config, tmp_path):
    again = train(config, work_dir=tmp_path, seed=0, deterministic=True)
    torch.use_deterministic_algorithms(False)
    assert _same(_weights(f'{trained.work_dir}/iter_4.pth'), _weights(tmp_path / 'iter_4.pth'))
    other = train(config, work_dir=tmp_path / 'other', seed=1)
    assert _loss(other) != _loss(again)


def test_a_resumed_run_ends_like_the_one_that_never_stopped(trained, config, tmp_path):
    train(config, work_dir=tmp_path, cfg_options={'train_cfg.max_iters': 2})
    assert not (tmp_path / 'iter_4.pth').exists()
    train(config, work_dir=tmp_path, resume='auto')
    assert _same(_weights(f'{trained.work_dir}/iter_4.pth'), _weights(tmp_path / 'iter_4.pth'))


def test_resuming_from_a_path_and_from_nothing(trained, config, tmp_path, caplog):
    runner = train(config, work_dir=tmp_path, resume=f'{trained.work_dir}/iter_2.pth')
    assert runner.iter == 4
    fresh = train(config, work_dir=tmp_path / 'new', resume=True)
    log = next(Path(fresh.work_dir).rglob('*.log')).read_text()
    assert 'there is no checkpoint' in log and fresh.iter == 4


def test_mixed_precision_on_the_cpu_is_bfloat16(config, tmp_path):
    runner = train(config, work_dir=tmp_path, amp=True)
    assert runner.message_hub.get_scalar('train/dtype_bits').current() == 16
    assert torch.isfinite(torch.tensor(_loss(runner)))


def test_the_learning_rate_is_scaled_with_the_batch(config, tmp_path):
    runner = train(config, work_dir=tmp_path, auto_scale_lr=True)
    assert runner.message_hub.get_scalar('train/lr').current() == 0.25  # 2 images, set for 4
    with pytest.raises(ConfigError, match=r'auto_scale_lr\.base_batch_size'):
        train(config, tmp_path, auto_scale_lr=True, cfg_options={'auto_scale_lr': None})


def test_nothing_is_saved_after_a_loss_that_is_not_finite(config, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r'iteration 4.*loss_mask=nan.*batch is in'):
        train(config, work_dir=tmp_path, cfg_options={'+model.nan_at': 4})
    kept = torch.load(tmp_path / 'non_finite_batch_rank0.pt', weights_only=False)
    assert kept['iteration'] == 4 and len(kept['data_batch']['inputs']) == 2
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_2.pth')


def test_a_killed_worker_is_explained(config, tmp_path):
    options = {
        'train_dataloader.num_workers': 1,
        'train_dataloader.dataset.pipeline': [dict(type='KillWorker')],
    }
    with pytest.raises(
        RuntimeError, match=r'out of memory: lower num_workers \(train_dataloader h'
    ):
        train(config, tmp_path, cfg_options=options)


def test_another_number_of_classes_stops_before_the_first_step(config, tmp_path):
    with pytest.raises(ConfigError, match=r'bbox_head of the model has num_classes=3'):
        train(config, work_dir=tmp_path, cfg_options={'model.num_classes': 3})


def test_wrong_annotations_stop_before_the_model_is_built(config, tmp_path):
    from isda_suite.datasets.errors import DataError

    classes = ('red', 'blue')
    with pytest.raises(DataError, match='blue'):
        train(config, tmp_path, cfg_options={'train_dataloader.dataset.metainfo.classes': classes})


def test_wrong_arguments_are_explained(config, tmp_path):
    with pytest.raises(ConfigError, match="ToySegmenter has no argument 'num_clases'"):
        train(config, tmp_path, cfg_options={'+model.num_clases': 3})
    with pytest.raises(ConfigError, match="'loader_workers'"):
        train(config, tmp_path, cfg_options={'+train_dataloader.loader_workers': 3})
    with pytest.raises(ConfigError, match='RANK is not in the environment'):
        train(config, tmp_path, launcher='pytorch')


def test_a_strategy_of_the_flexible_runner_trains(trained, config, tmp_path):
    options = {'runner_type': 'FlexibleRunner', 'strategy.type': 'SingleDeviceStrategy'}
    runner = train(config, work_dir=tmp_path, cfg_options=options, seed=0)
    assert type(runner).__name__ == 'FlexibleRunner'
    assert abs(_loss(runner) - _loss(trained)) < 1e-6
