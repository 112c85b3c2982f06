"""The attention module: mmcv's parameters, start values, arguments and results."""

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention as FromMmcv

from isda_suite.ops import MultiScaleDeformableAttention, deformable_attention
from isda_suite.registry import MODELS

SHAPES = ((5, 7), (3, 4))
ROWS = 47


def _both(**arguments):
    arguments = {'embed_dims': 32, 'num_heads': 4, 'num_levels': 2, **arguments}
    ours, theirs = MultiScaleDeformableAttention(**arguments), FromMmcv(**arguments)
    generator = torch.Generator().manual_seed(3)
    state = {
        name: torch.randn(p.shape, generator=generator) * 0.3
        for name, p in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    return ours.eval(), theirs.eval()


def _inputs(batch_first=False, box=False):
    generator = torch.Generator().manual_seed(4)
    query = torch.randn(6, 2, 32, generator=generator)
    value = torch.randn(ROWS, 2, 32, generator=generator)
    if batch_first:
        query, value = query.transpose(0, 1), value.transpose(0, 1)
    return {
        'query': query,
        'value': value,
        'query_pos': torch.randn(query.shape, generator=generator),
        'key_padding_mask': torch.rand(2, ROWS, generator=generator) > 0.8,
        'reference_points': torch.rand(2, 6, 2, 4 if box else 2, generator=generator),
        'spatial_shapes': torch.tensor(SHAPES),
        'level_start_index': torch.tensor([0, 35]),
    }


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('box', [False, True])
@pytest.mark.parametrize('ratio', [1.0, 0.5])
def test_results_are_mmcvs(batch_first, box, ratio):
    ours, theirs = _both(batch_first=batch_first, value_proj_ratio=ratio)
    inputs = _inputs(batch_first, box)
    torch.testing.assert_close(ours(**inputs), theirs(**inputs), rtol=1e-4, atol=1e-4)
    inputs['identity'] = torch.ones_like(inputs['query'])
    torch.testing.assert_close(ours(**inputs), theirs(**inputs), rtol=1e-4, atol=1e-4)


def test_start_values_are_mmcvs():
    arguments = {'embed_dims': 32, 'num_heads': 4, 'num_levels': 2, 'num_points': 3}
    torch.manual_seed(7)
    ours = MultiScaleDeformableAttention(**arguments).state_dict()
    torch.manual_seed(7)
    theirs = FromMmcv(**arguments).state_dict()
    assert list(ours) == list(theirs)
    for name, start in theirs.items():
        torch.testing.assert_close(ours[name], start, msg=name)


def test_padded_values_count_as_zero():
    ours, _ = _both()
    inputs = _inputs()
    mask = inputs['key_padding_mask']
    changed = torch.where(
        mask.T[..., None], torch.full(inputs['value'].shape, 9.0), inputs['value']
    )
    assert torch.equal(ours(**{**inputs, 'value': changed}), ours(**inputs))


def test_a_list_of_sizes_gives_the_same():
    ours, _ = _both()
    inputs = _inputs()
    by_list = {**inputs, 'spatial_shapes': list(SHAPES), 'level_start_index': None}
    assert torch.equal(ours(**by_list), ours(**inputs))


def test_every_parameter_gets_a_gradient():
    ours, _ = _both()
    ours(**_inputs()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ours.parameters())


@pytest.mark.parametrize('mode', ['autocast', 'bfloat16', 'float64'])
def test_sixteen_bits_and_double_stay_close(mode):
    ours, _ = _both()
    inputs = _inputs()
    expected = ours(**inputs)
    if mode == 'autocast':
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = ours(**inputs)
    else:
        dtype = getattr(torch, mode)
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
        found = ours.to(dtype)(**cast)
        assert found.dtype == dtype
    error = (found.float() - expected).norm() / expected.norm()
    assert error < (1e-5 if mode == 'float64' else 0.03)


def test_reference_points_are_float32_under_autocast(monkeypatch):
    """The raw projections may be 16 bits wide: the operator computes locations in 32."""
    ours, _ = _both()
    seen = []
    operator = deformable_attention.ms_deform_attn_fused

    def watch(value, shapes, starts, *points):
        seen.append([value.dtype, *(tensor.dtype for tensor in points)])
        return operator(value, shapes, starts, *points)

    monkeypatch.setattr(deformable_attention, 'ms_deform_attn_fused', watch)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ours(**_inputs())
    assert seen == [[torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]]


def test_it_is_in_the_registry():
    # With the prefix: another scope may be active, in which the bare name is mmcv's class.
    name = 'isda_suite.MultiScaleDeformableAttention'
    built = MODELS.build({'type': name, 'embed_dims': 16, 'num_heads': 2})
    assert isinstance(built, MultiScaleDeformableAttention)


def test_wrong_use_is_explained():
    with pytest.raises(
        ValueError, match=r'^embed_dims: expected a multiple of num_heads=5, got 32'
    ):
        MultiScaleDeformableAttention(32, 5)
    ours, _ = _both()
    inputs = _inputs()
    with pytest.raises(ValueError, match=r'^reference_points: expected a tensor, got None'):
        ours(inputs['query'])
    with pytest.raises(ValueError, match=r'^value: expected 47 rows as spatial_shapes has, got 46'):
        ours(**{**inputs, 'value': inputs['value'][1:], 'key_padding_mask': None})
    with pytest.raises(ValueError, match=r'^reference_points: expected a last axis of 2'):
        ours(**{**inputs, 'reference_points': torch.rand(2, 6, 2, 3)})
