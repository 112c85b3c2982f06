"""The mask feature branch: names of published checkpoints, sizes, gradients, initialisation."""

import pytest
import torch

from isda_suite.layers import MaskFeatureBranch


@pytest.fixture(scope='module')
def branch():
    torch.manual_seed(0)
    return MaskFeatureBranch(
        in_channels=8,
        feat_channels=4,
        start_level=0,
        end_level=3,
        out_channels=6,
        norm_cfg=dict(type='GN', num_groups=2),
    )


def levels(batch=2, height=16, width=24):
    return [torch.randn(batch, 8, height // 2**i, width // 2**i) for i in range(4)]


def test_the_names_and_shapes_are_those_of_published_checkpoints(branch):
    shapes = {
        name: tuple(value.shape)
        for name, value in branch.state_dict().items()
        if name.endswith('conv.weight')
    }
    inner = {(0, 0): 8, (1, 0): 8, (2, 0): 8, (2, 1): 4, (3, 0): 10, (3, 1): 4, (3, 2): 4}
    wanted = {
        f'convs_all_levels.{level}.conv{index}.conv.weight': (4, channels, 3, 3)
        for (level, index), channels in inner.items()
    }
    assert shapes == {**wanted, 'conv_pred.conv.weight': (6, 4, 1, 1)}


def test_the_map_has_the_size_of_the_finest_level_and_is_never_negative(branch):
    found = branch(levels())
    assert found.shape == (2, 6, 16, 24)
    assert found.min() >= 0 and found.max() > 0


def test_gradient_reaches_every_parameter_and_level(branch):
    inputs = [level.requires_grad_() for level in levels(batch=1)]
    branch(inputs).sum().backward()
    assert all(p.grad is not None for p in branch.parameters())
    assert all(level.grad.abs().max() > 0 for level in inputs)


def test_all_convolutions_start_alike(branch):
    branch.init_weights()
    for name, value in branch.named_parameters():
        if name.endswith('conv.weight'):
            assert 0.005 < value.std() < 0.02, name
        elif name.endswith('gn.weight'):
            assert (value == 1).all()
        else:
            assert (value == 0).all(), name
