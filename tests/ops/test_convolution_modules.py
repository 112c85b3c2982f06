"""The convolution modules: mmcv's parameters, start values and arguments, and old checkpoints."""

import copy
import pickle

import pytest
import torch
from mmcv.ops import deform_conv, modulated_deform_conv
from torch import nn

from isda_suite.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    deform_conv2d,
)
from isda_suite.registry import MODELS

PAIRS = {
    'DeformConv2d': (DeformConv2d, deform_conv.DeformConv2d),
    'DeformConv2dPack': (DeformConv2dPack, deform_conv.DeformConv2dPack),
    'ModulatedDeformConv2d': (ModulatedDeformConv2d, modulated_deform_conv.ModulatedDeformConv2d),
    'ModulatedDeformConv2dPack': (
        ModulatedDeformConv2dPack,
        modulated_deform_conv.ModulatedDeformConv2dPack,
    ),
}
PACKS = [DeformConv2dPack, ModulatedDeformConv2dPack]
SIZES = {'stride': 2, 'padding': (1, 0), 'dilation': 1, 'groups': 2, 'deform_groups': 2}


@pytest.mark.parametrize('name', PAIRS)
def test_start_values_are_mmcvs(name):
    states = []
    for kind in PAIRS[name]:
        torch.manual_seed(7)
        states.append(kind(8, 6, 3, **SIZES).state_dict())
    ours, theirs = states
    assert list(ours) == list(theirs)
    assert ours._metadata[''].get('version') == theirs._metadata[''].get('version')
    for parameter, start in theirs.items():
        assert torch.equal(ours[parameter], start), parameter


@pytest.mark.parametrize('name', PAIRS)
def test_arguments_are_mmcvs(name):
    ours, theirs = (kind(8, 6, (3, 5), **SIZES) for kind in PAIRS[name])
    for attribute in ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation',
                      'groups', 'deform_groups', 'transposed', 'output_padding'):  # fmt: skip
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute


@pytest.mark.parametrize('kind', PACKS)
def test_a_fresh_pack_is_a_convolution(kind):
    pack = kind(4, 6, 3, padding=1, bias=kind is ModulatedDeformConv2dPack)
    x = torch.randn(2, 4, 5, 6)
    share = 1.0 if kind is DeformConv2dPack else 0.5
    plain = nn.functional.conv2d(x, pack.weight * share, pack.bias, padding=1)
    torch.testing.assert_close(pack(x), plain, rtol=1e-4, atol=1e-5)


def test_a_modulated_pack_splits_what_it_predicts_as_mmcv_does():
    pack = ModulatedDeformConv2dPack(4, 6, 3, padding=1, deform_groups=2)
    nn.init.normal_(pack.conv_offset.weight, std=0.3)
    x = torch.randn(2, 4, 5, 6)
    first, second, mask = pack.conv_offset(x).chunk(3, 1)
    expected = deform_conv2d(
        x, torch.cat([first, second], 1), mask.sigmoid(), pack.weight, pack.bias, 1, 1, 1, 1, 2
    )
    torch.testing.assert_close(pack(x), expected)


@pytest.mark.parametrize('kind', PACKS)
def test_every_parameter_gets_a_gradient(kind):
    pack = kind(4, 6, 3, padding=1)
    nn.init.normal_(pack.conv_offset.weight, std=0.3)
    pack(torch.randn(2, 4, 5, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pack.parameters())


def test_version_one_takes_one_image_without_a_batch():
    conv = DeformConv2d(4, 6, 3, padding=1)
    x, offset = torch.randn(1, 4, 5, 6), torch.randn(1, 18, 5, 6)
    assert torch.equal(conv(x[0], offset[0]), conv(x, offset)[0])
    pack = DeformConv2dPack(4, 6, 3, padding=1)
    torch.testing.assert_close(pack(x[0]), pack(x)[0])


@pytest.mark.parametrize('kind', PACKS)
def test_an_input_smaller_than_the_kernel_is_legal(kind):
    assert kind(4, 6, 3, padding=1)(torch.randn(2, 4, 1, 2)).shape == (2, 6, 1, 2)


@pytest.mark.parametrize('kind', PACKS)
def test_a_pack_works_under_autocast(kind):
    pack = kind(4, 6, 3, padding=1)
    nn.init.normal_(pack.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 5, 6)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = pack(x)
    assert found.dtype == torch.bfloat16
    assert (found.float() - pack(x)).norm() < 0.05 * pack(x).norm()


@pytest.mark.parametrize('kind', PACKS)
def test_packs_can_be_copied_pickled_and_printed(kind):
    pack = kind(4, 6, 3, padding=1)
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(pack)))(x), pack(x))
    assert 'kernel_size=(3, 3)' in repr(pack)


@pytest.mark.parametrize(
    'name, kind',
    [
        *((name, ours) for name, (ours, _) in PAIRS.items()),
        ('DCN', DeformConv2dPack),
        ('DCNv2', ModulatedDeformConv2dPack),
    ],
)
def test_they_are_in_the_registry(name, kind):
    built = MODELS.build(
        {'type': f'isda_suite.{name}', 'in_channels': 4, 'out_channels': 4, 'kernel_size': 3}
    )
    assert type(built) is kind


def test_the_old_name_of_the_deform_groups_still_works():
    with pytest.warns(DeprecationWarning, match='deformable_groups'):
        assert DeformConv2d(4, 6, 3, deformable_groups=2).deform_groups == 2


def test_wrong_use_is_explained():
    with pytest.raises(ValueError, match=r'^in_channels: expected a multiple of groups=3, got 4'):
        DeformConv2d(4, 6, 3, groups=3)
    with pytest.raises(ValueError, match=r'^out_channels: expected a multiple of groups=4, got 6'):
        ModulatedDeformConv2d(4, 6, 3, groups=4)
    with pytest.raises(ValueError, match=r'^in_channels: expected a multiple of deform_groups=3'):
        ModulatedDeformConv2d(4, 6, 3, deform_groups=3)
    with pytest.raises(ValueError, match=r'^bias: expected False'):
        DeformConv2d(4, 6, 3, bias=True)
