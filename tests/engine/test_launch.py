import pytest
import torch
from mmengine.config import Config

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import load_config, prepare_run
from isda_suite.engine.old_options import is_first_process


def _loader(**options):
    return {'batch_size': 1, 'dataset': {'type': 'X'}, **options}


def test_the_watching_hooks_are_on_in_every_run_and_can_be_switched_off():
    cfg = Config({'model': {}, 'default_hooks': {'progress': None, 'logger': {'type': 'L'}}})
    prepare_run(cfg)
    watching = {
        'finite_loss',
        'class_count',
        'checkpoint_fit',
        'counted_randomness',
        'preemption',
        'loader_memory',
        'training_state',
    }
    assert set(cfg.default_hooks) == {'logger', 'checkpoint', *watching}
    assert cfg.default_hooks.checkpoint.type == 'isda_suite.SafeCheckpointHook'
    cfg = Config({'model': {}})
    prepare_run(cfg)
    assert 'progress' in cfg.default_hooks


def test_own_settings_of_a_hook_stay():
    own = {'type': 'isda_suite.FiniteLossHook', 'patience': 5}
    cfg = Config({'model': {}, 'default_hooks': {'finite_loss': own}})
    prepare_run(cfg)
    assert cfg.default_hooks.finite_loss == own
    cfg = Config({'model': {}, 'default_hooks': {'checkpoint': dict(type='CheckpointHook', a=1)}})
    prepare_run(cfg)
    assert cfg.default_hooks.checkpoint == {'type': 'isda_suite.SafeCheckpointHook', 'a': 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_memory_is_not_pinned_without_a_gpu():
    cfg = Config({'model': {}, 'train_dataloader': _loader(pin_memory=True)})
    prepare_run(cfg)
    assert cfg.train_dataloader.pin_memory is False


@pytest.mark.parametrize(
    ('launcher', 'message'),
    [('ssh', 'launcher must be one of'), ('slurm', 'SLURM_PROCID is not in'), ('mpi', 'mpirun')],
)
def test_a_launcher_that_did_not_start_this_process_is_refused(launcher, message, monkeypatch):
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    with pytest.raises(ConfigError, match=message):
        prepare_run(Config({'model': {}}), launcher)


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_the_first_process_is_known_before_the_ranks_are_connected(variable, monkeypatch):
    assert is_first_process()
    monkeypatch.setenv(variable, '1')
    assert not is_first_process()


def test_the_work_dir_comes_from_argument_configuration_or_name():
    assert load_config('isda_r50_3x_coco').work_dir == 'work_dirs/isda_r50_3x_coco'
    assert load_config('isda_r50_3x_coco', {'work_dir': 'a'}).work_dir == 'a'
    assert load_config('isda_r50_3x_coco', {'work_dir': 'a'}, 'b').work_dir == 'b'


def test_a_given_configuration_is_not_changed():
    cfg = Config({'model': {'a': 1}})
    load_config(cfg, {'model.a': 2})
    assert cfg.model.a == 1 and 'work_dir' not in cfg
