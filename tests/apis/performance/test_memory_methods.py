"""Estimates for every method; a method takes part by its sample configuration."""

import json

import pytest
import torch

from isda_suite.apis.model import build_model
from isda_suite.apis.performance.memory_estimate import bytes_of_weights, estimate
from isda_suite.apis.performance.memory_trial import Workload
from isda_suite.engine.config_file import read_config
from tests.apis.test_segmenter_methods import METHODS, NAMES


def test_every_method_takes_part():
    assert {name.split('_')[0] for name in NAMES} == METHODS


@pytest.mark.parametrize('name', NAMES)
def test_the_parts_of_an_estimate_add_up(name):
    torch.manual_seed(0)
    model = build_model(name)
    trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    optimizer = read_config(name).optim_wrapper.optimizer
    found = estimate(model, Workload(2, (64, 64), True, 3), optimizer, lambda: 10**9)
    assert found.weights == bytes_of_weights(model) >= trained
    assert found.optimizer == pytest.approx(2 * trained, rel=1e-3), 'two moments of AdamW'
    assert found.step > trained, 'gradients, and what they are computed from'
    parts = found.weights + found.optimizer + found.step
    assert found.total == 10**9 + parts
    test = estimate(model, Workload(1, (64, 64), False, 3))
    assert 0 < test.step < found.step and test.optimizer == 0
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('run', ['train', 'test'])
def test_a_run_takes_what_was_estimated(run, tmp_path):
    from benchmarks.memory_cases import Case
    from benchmarks.memory_estimate import compare, ratio

    case = Case('isdnet_r18_sample', 'semantic', (256, 320), batch_size=4, workers=1)
    if run == 'test':
        compare(case, tmp_path, 'train', {'parts': {}})
    row = compare(case, tmp_path, run)
    assert 0.8 <= ratio(row) <= 1.2, json.dumps(row)
