"""Old checkpoints of a ResNet with deformable convolutions, by every way into a model."""

import itertools
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import compare, load_into
from isda_suite.checkpoint.old_offsets import accept_old_offsets, rename_old_offsets
from isda_suite.engine.launch import build_runner
from isda_suite.ops import patch_mmcv

_runs = itertools.count()


@MODELS.register_module()
class WithDeformableBackbone(BaseModel):
    def __init__(self, kind, pretrained=None, data_preprocessor=None):
        super().__init__(data_preprocessor)
        from mmdet.models.backbones import ResNet

        self.backbone = ResNet(
            50,
            base_channels=8,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1,),
            dcn=dict(type=kind, deform_groups=1, fallback_on_stride=False),
            stage_with_dcn=(False, True),
            init_cfg=pretrained,
        )

    def forward(self, x, mode):
        return {'loss': self.backbone(x[None])[0].square().mean()}


@pytest.fixture(params=['DCN', 'DCNv2'])
def kind(request):
    return request.param


@pytest.fixture(params=['mmcv', 'ours'])
def operators(request):
    with patch_mmcv() if request.param == 'ours' else nullcontext():
        yield


def _weights(kind, old=True):
    """Positive entries for every name, in the old names if asked for."""
    torch.manual_seed(0)
    state = WithDeformableBackbone(kind).state_dict()
    filled = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}
    assert sum('conv_offset' in name for name in filled) == 8
    if not old:
        return filled
    return {name.replace('.conv_offset.', '_offset.'): value for name, value in filled.items()}


def _require_loaded(model, kind):
    expected = _weights(kind, old=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_strict_load_takes_the_old_names(kind, operators):
    model = WithDeformableBackbone(kind)
    assert load_into(model, {'state_dict': _weights(kind)}, strict=True).complete
    _require_loaded(model, kind)


def test_the_comparison_before_a_run_knows_the_old_names(kind, operators):
    checkpoint = {'state_dict': _weights(kind)}
    report = compare(WithDeformableBackbone(kind), checkpoint, 'old.pth')
    assert report.complete and len(report.matched) == len(checkpoint['state_dict'])


@pytest.mark.parametrize('loader', ['torch', 'mmengine'])
def test_every_loader_takes_the_old_names_once_a_model_accepts_them(kind, operators, loader):
    """Alone, a module is shown only what stands below its own name."""
    model = WithDeformableBackbone(kind)
    old = _weights(kind)
    if loader == 'torch':
        assert len(model.load_state_dict(old, strict=False).missing_keys) == 8
    accept_old_offsets(model)
    if loader == 'torch':
        model.load_state_dict(old, strict=True)
    else:
        from mmengine.runner.checkpoint import load_state_dict

        load_state_dict(model, old, strict=True)
    _require_loaded(model, kind)


def _config(kind, folder, **options):
    loader = dict(batch_size=1, sampler=dict(type='DefaultSampler'), dataset=[torch.ones(3, 8, 8)])
    model = dict(
        type='WithDeformableBackbone', kind=kind, pretrained=options.pop('pretrained', None)
    )
    return Config(
        dict(
            model=model,
            work_dir=str(folder),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
            default_hooks=dict(fit=dict(type='isda_suite.CheckpointFitHook'), checkpoint=None),
            experiment_name=f'old-offsets{next(_runs)}',
            **options,
        )
    )


@pytest.mark.parametrize('way', ['load_from', 'init_cfg', 'init_cfg with a prefix'])
def test_a_run_starts_from_an_old_checkpoint(kind, operators, way, tmp_path):
    """With momentum and rate of zero, so that what was loaded is still there."""
    path = str(tmp_path / 'old.pth')
    state = _weights(kind)
    if way == 'init_cfg':
        state = {name.removeprefix('backbone.'): value for name, value in state.items()}
    torch.save({'state_dict': state}, path)
    pretrained = dict(type='Pretrained', checkpoint=path)
    if way == 'init_cfg with a prefix':
        pretrained['prefix'] = 'backbone.'
    options = dict(load_from=path) if way == 'load_from' else dict(pretrained=pretrained)
    runner = build_runner(_config(kind, tmp_path / 'run', **options))
    runner.model.backbone.norm_eval = True  # running means stay
    runner.train()
    _require_loaded(runner.model, kind)


def test_a_layer_that_is_really_called_so_keeps_its_name():
    state = {'a_offset.weight': torch.ones(1)}
    assert rename_old_offsets(state, ['a.conv_offset.weight', 'a_offset.weight']) == []
    assert list(state) == ['a_offset.weight']
    both = {'a_offset.weight': torch.ones(1), 'a.conv_offset.weight': torch.zeros(1)}
    assert rename_old_offsets(both, ['a.conv_offset.weight']) == []


def test_what_is_missing_is_still_missed(kind):
    state = _weights(kind)
    del state['backbone.layer2.0.conv2_offset.bias']
    with pytest.raises(CheckpointError, match=r'layer2\.0\.conv2\.conv_offset\.bias'):
        load_into(WithDeformableBackbone(kind), {'state_dict': state}, strict=True)


def test_a_model_without_such_layers_gets_no_hook():
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    accept_old_offsets(model)
    assert not any(module._load_state_dict_pre_hooks for module in model.modules())
