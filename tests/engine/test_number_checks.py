"""Counts and rates of a configuration that a run cannot begin with."""

import pytest
from mmengine.config import Config

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.number_checks import check_numbers


def _config(**changes):
    content = {
        'train_cfg': {'max_iters': 4, 'val_interval': 2},
        'train_dataloader': {'batch_size': 2, 'num_workers': 0},
        'optim_wrapper': {'optimizer': {'lr': 1e-3}},
    }
    for place, value in changes.items():
        *parents, key = place.split('__')
        node = content
        for parent in parents:
            node = node[parent]
        node[key] = value
    return Config(content)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(train_cfg__max_iters='many'),
            r"train_cfg\.max_iters must be .* from 1 on, got 'many",
        ),
        (dict(train_dataloader__batch_size=0), r'train_dataloader\.batch_size must be .*, got 0'),
        (dict(train_dataloader__num_workers=-1), r'num_workers must be .* from 0 on, got -1'),
        (dict(train_dataloader__batch_size=True), 'batch_size must be .*, got True'),
        (dict(optim_wrapper__optimizer__lr='fast'), r"optimizer\.lr must be a number .*'fast'"),
        (dict(optim_wrapper__optimizer__lr=float('nan')), 'lr must be a number from 0 on, got nan'),
    ],
)
def test_what_is_no_number_is_named_with_its_place(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_numbers(_config(**changes))


def test_all_are_told_at_once_and_right_ones_pass():
    with pytest.raises(ConfigError, match=r'(?s)max_iters .*\n.*batch_size'):
        check_numbers(_config(train_cfg__max_iters=0, train_dataloader__batch_size=0))
    check_numbers(_config())
    check_numbers(Config({'train_cfg': None, 'optim_wrapper': None}))
