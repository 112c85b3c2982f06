import pytest
import torch

from isda_suite.methods.iuq.curves import response_curves
from tests.methods.iuq.build import batch_of, build_iuq

CURVES = {'iuq/p_mean', 'iuq/p_top1pct'}


def test_mean_and_strongest_hundredth_of_all_responses():
    p = torch.linspace(0.001, 0.999, 250)
    found = response_curves([p[:100].logit().view(4, 25), p[100:].logit()])
    assert found['iuq/p_mean'].item() == pytest.approx(0.5)
    assert found['iuq/p_top1pct'].item() == pytest.approx(p[-3:].mean().item())
    assert response_curves([torch.tensor([0.0])])['iuq/p_top1pct'] == 0.5
    assert response_curves([]) == response_curves([torch.zeros(0, 4)]) == {}


def test_no_name_is_summed_as_a_loss_and_no_gradient_is_kept():
    logits = torch.zeros(3, requires_grad=True)
    found = response_curves([logits])
    assert not [name for name in found if 'loss' in name]
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize(
    ('family', 'preset'), [('condinst', 'released_condinst'), ('solov2', 'released_solov2')]
)
def test_the_released_presets_have_curves_too(family, preset):
    model = build_iuq(family, preset=preset, memory=None)
    model.loss(*batch_of(first_id=10))
    losses = model.loss(*batch_of())
    assert CURVES <= set(losses)
    assert 0 < losses['iuq/p_mean'] <= losses['iuq/p_top1pct'] <= 1
    if preset == 'released_solov2':
        assert losses['iuq/mem_size'] == 2 * 32 * 32  # one batch of two maps


def test_past_batches_have_no_responses_before_the_second_step_or_without_queries():
    model = build_iuq('solov2', preset='released_solov2', memory=None)
    assert not CURVES & set(model.loss(*batch_of()))
    assert not CURVES & set(model.loss(*batch_of(counts=(0,))))
