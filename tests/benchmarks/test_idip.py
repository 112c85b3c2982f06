"""The benchmark of IDIP: that its rival is the same network, and that its cases run."""

import pytest
import torch

from benchmarks import idip, idip_steps
from tests.methods.idip.build import small_idip


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    def build(proposals, batching='loop'):
        torch.manual_seed(0)
        options = {'num_proposals': proposals, 'roi_head.mask_head.batching': batching}
        return small_idip(80, **options).train()

    monkeypatch.setattr(idip_steps, 'build_model', build)
    monkeypatch.setattr(idip, 'build_model', build)


@pytest.fixture
def benchmark(run_case):
    """Run a case; returns its only row."""

    def run(case, *arguments):
        (row,) = run_case(idip, case, '--rounds', 1, *arguments)
        return row

    return run


def test_the_eager_form_has_our_losses_gradients_and_statistics():
    differences = idip_steps.require_equal_steps(side=128, proposals=12)
    assert set(differences) == {'losses', 'gradients', 'statistics'}
    assert max(differences.values()) < idip_steps.TOLERANCE


def test_steps_that_differ_are_not_timed(monkeypatch):
    def losses_of(variant, proposals):
        model = torch.nn.BatchNorm1d(2)
        factor = 1.001 if variant == 'eager' else 1
        return model, lambda *_: {'loss_mask': factor * model(torch.eye(2)).square().sum()}

    monkeypatch.setattr(idip_steps, 'losses_of', losses_of)
    with pytest.raises(SystemExit, match='steps differ'):
        idip_steps.require_equal_steps(side=32)


def test_a_step_has_a_ratio_of_time_and_memory_to_the_eager_form(benchmark):
    row = benchmark('step', '--side', 64, '--proposals', 12, '--objects', 3)
    for name in idip.VARIANTS[:2]:
        ratio = row[f'{name} / eager']
        assert ratio['time'] > 0 and ratio['memory'] > 0
        assert row[name]['peak_mb'] <= row[name]['process_mb']


def test_masks_at_once_are_those_of_the_loop(benchmark):
    row = benchmark('masks', '--side', 64)
    assert row['images'] == 8 and row['instances'] == 20
    assert row['relative_difference'] <= 1e-5
    assert {'at once / one by one', 'at once / eager'} <= set(row)


def test_masks_of_all_stages_are_trained_at_once(benchmark):
    row = benchmark('mask-training', '--side', 64, '--stages', 2)
    assert row['stages'] == 2 and row['at once / eager']['time'] > 0


@pytest.mark.parametrize(('case', 'arguments'), [('masks', ()), ('mask-training', ('--stages', 1))])
def test_masks_that_differ_are_not_timed(benchmark, monkeypatch, case, arguments):
    right = idip_steps.MaskWork.ours
    monkeypatch.setattr(
        idip_steps.MaskWork, 'ours', lambda *args, **options: 1.001 * right(*args, **options)
    )
    with pytest.raises(SystemExit, match='nothing was timed'):
        benchmark(case, '--side', 64, *arguments)


def test_a_batch_is_compared_with_single_images(benchmark):
    row = benchmark('predict', '--side', 64, '--proposals', 12)
    assert len(row['detections']) == 4
    assert row['batch of 4 / 4 single images']['time'] > 0
