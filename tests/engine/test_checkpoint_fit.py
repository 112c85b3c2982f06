import itertools

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from isda_suite.checkpoint.errors import CheckpointError

_runs = itertools.count()


class _Toy(BaseModel):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.fc_cls = nn.Linear(2, num_classes)

    def forward(self, x, mode):
        return {'loss': self.fc_cls(self.body(x)).sum()}


class _Data(list):
    metainfo: dict


def _train(work_dir, num_classes, epochs=1, classes=('a', 'b', 'c', 'd', 'e'), **options):
    data = _Data([torch.ones(2)])
    data.metainfo = {'classes': classes[:num_classes]}
    runner = Runner(
        model=_Toy(num_classes),
        work_dir=str(work_dir),
        train_dataloader=dict(batch_size=1, sampler=dict(type='DefaultSampler'), dataset=data),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(fit=dict(type='isda_suite.CheckpointFitHook')),
        experiment_name=f'fit{next(_runs)}',
        **options,
    )
    runner.train()
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    where = tmp_path_factory.mktemp('fit')
    _train(where, 3)
    return str(where / 'epoch_1.pth')


def test_a_run_of_the_same_model_resumes(trained, tmp_path):
    assert _train(tmp_path, 3, epochs=2, resume=True, load_from=trained).epoch == 2


def test_resuming_another_model_stops_with_the_counts(trained, tmp_path):
    with pytest.raises(CheckpointError) as error:
        _train(tmp_path, 5, epochs=2, resume=True, load_from=trained)
    assert '4 entries matched' in str(error.value) and trained in str(error.value)
    assert 'fc_cls.weight has 3 outputs in the checkpoint and 5 in the model' in str(error.value)


def test_resuming_with_other_class_names_stops(trained, tmp_path):
    with pytest.raises(CheckpointError, match='another order'):
        _train(tmp_path, 3, epochs=2, classes=('b', 'a', 'c'), resume=True, load_from=trained)


def test_fine_tuning_keeps_what_fits_and_says_what_does_not(trained, tmp_path):
    runner = _train(tmp_path, 5, load_from=trained)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'fc_cls.weight' in log and '(3, 2) -> (5, 2)' in log
    assert runner.epoch == 1


def test_weights_of_another_model_stop_fine_tuning(tmp_path):
    torch.save({'state_dict': {'encoder.weight': torch.zeros(2)}}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='only 0 of 6 parameters match'):
        _train(tmp_path, 3, load_from=str(tmp_path / 'other.pth'))
