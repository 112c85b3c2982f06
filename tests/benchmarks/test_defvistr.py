"""The benchmark of DefVisTR: that its rival is the same network."""

import pytest
import torch
from torch import nn

from benchmarks import defvistr_steps
from benchmarks.rivals.defvistr_eager import deformable_attention
from isda_suite.ops import ms_deform_attn


def test_the_eager_form_has_our_losses_and_gradients():
    differences = defvistr_steps.require_equal_steps(frames=2, size_hw=(43, 64))
    assert max(differences.values()) < defvistr_steps.TOLERANCE


class OneLayer(nn.Module):
    """A single layer under the name it has in our model or in the rival."""

    def __init__(self, path):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict({path[0]: nn.ModuleDict({path[1]: nn.Linear(2, 2)})})
        self.layer = self.layers[path[0]][path[1]]

    def named_parameters(self):
        (first, inside), *_ = self.layers.items()
        yield from ((f'{first}.{name}', p) for name, p in inside.named_parameters())


@pytest.mark.parametrize(('factor', 'refused'), [(1, False), (1.001, True)])
def test_steps_that_differ_are_not_timed(monkeypatch, factor, refused):
    def losses_of(variant, frames, dropout):
        ours = variant == 'ours'
        model = OneLayer(('head', 'cls_branch') if ours else ('vistr', 'class_embed'))
        scale = factor if ours else 1
        return model, lambda *_: {'loss_cls': scale * model.layer(torch.ones(2)).square().sum()}

    monkeypatch.setattr(defvistr_steps, 'losses_of', losses_of)
    if refused:
        with pytest.raises(SystemExit, match=r'losses differ by 0\.001'):
            defvistr_steps.require_equal_steps(frames=1, size_hw=(8, 8))
    else:
        defvistr_steps.require_equal_steps(frames=1, size_hw=(8, 8))


def test_the_eager_attention_is_ours():
    torch.manual_seed(0)
    shapes = [(3, 5), (2, 4)]
    value = torch.randn(1, 23, 2, 4)
    locations, weights = torch.rand(1, 6, 2, 2, 3, 2) * 1.4 - 0.2, torch.rand(1, 6, 2, 2, 3)
    sizes, starts = torch.tensor(shapes), torch.tensor([0, 15])
    expected = ms_deform_attn(value, sizes, starts, locations, weights)
    torch.testing.assert_close(deformable_attention(value, shapes, locations, weights), expected)
