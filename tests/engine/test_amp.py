import pytest
import torch
from torch import nn

from isda_suite.engine.amp import AmpOptimWrapper, use_amp

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU part of the wrapper')


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def _step(wrapper, layer):
    with wrapper.optim_context(layer):
        out = layer(torch.ones(2, 4))
        loss = out.float().square().mean()
    wrapper.update_params(loss)
    return out, loss


def test_the_cpu_computes_in_bfloat16_and_learns(layer):
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1))
    losses = [_step(wrapper, layer)[1].item() for _ in range(5)]
    assert _step(wrapper, layer)[0].dtype == torch.bfloat16
    assert losses[-1] < losses[0]
    assert layer.weight.dtype == torch.float32


def test_gradients_are_clipped_and_the_state_can_be_saved(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    wrapper = AmpOptimWrapper(optimizer=optimizer, clip_grad={'max_norm': 1e-3}, dtype='float16')
    before = layer.weight.clone()
    _step(wrapper, layer)
    assert 0 < (layer.weight - before).norm() <= 1.01e-3
    wrapper.load_state_dict(wrapper.state_dict())


def test_the_configured_wrapper_becomes_mixed():
    cfg = {'optimizer': {'type': 'SGD'}}
    use_amp(cfg)
    assert cfg['type'] == 'isda_suite.AmpOptimWrapper'
    cfg = {'type': 'AmpOptimWrapper', 'dtype': 'bfloat16'}
    use_amp(cfg)
    assert cfg['dtype'] == 'bfloat16'
    with pytest.raises(ValueError, match='OptimWrapperDict'):
        use_amp({'type': 'OptimWrapperDict'})
