"""The tables of ISDA against the names and shapes recorded from the published code."""

import json
import os
from pathlib import Path

import pytest
import torch

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.renaming import (
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)
from isda_suite.methods.isda import convert

GOLDEN = Path(os.environ.get('ISDA_GOLDEN_DIR', Path(__file__).parents[2] / 'data' / 'golden'))
BOX_LAYERS = {'0': (256, 256), '2': (256, 256), '4': (4, 256)}


@pytest.fixture(scope='module')
def original():
    """Entries of an original ISDA checkpoint; tensors without memory of their own."""
    golden = json.loads((GOLDEN / 'isda_forward.json').read_text())
    shared = golden['shared']
    shapes = dict(golden['parameters'])
    shapes.update({name: shapes[source] for name, source in shared.items()})
    return {name: _tensor(shape) for name, shape in shapes.items()}


def _tensor(shape):
    return torch.zeros(1).expand(shape) if shape else torch.tensor(0)


def _start_checkpoint(original):
    """The same entries as mmdet 2's Deformable-DETR has them."""
    new = ('neck.first_conv', 'mask_feat_head', 'bbox_head.kernel_branches')
    state = {k: v for k, v in original.items() if not k.startswith(new)}
    for layer in range(6):
        for part, (rows, columns) in BOX_LAYERS.items():
            name = f'bbox_head.reg_branches.{layer}.{part}'
            state[f'{name}.weight'] = _tensor((rows, columns))
            state[f'{name}.bias'] = _tensor((rows,))
    return state


def _mmdet3(start):
    """The start checkpoint re-saved by mmdet 3: our names but for the neck and the boxes."""
    boxes = {k: v for k, v in start.items() if 'reg_branches' in k}
    renamed, _ = convert_state_dict(start, convert.MMDET2_DEFORMABLE_DETR)
    state = {}
    for name, tensor in renamed.items():
        for index in (1, 2, 3):
            name = name.replace(f'neck.convs.{index}.', f'neck.convs.{index - 1}.')
        state[name] = tensor
    return {**state, **boxes}


@pytest.fixture(scope='module')
def ours(original):
    state, _ = convert_state_dict(original, convert.ISDA)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_every_original_name_has_a_place(original, ours):
    assert len(original) == len(ours) == 637
    state, report = convert_state_dict(original, convert.ISDA, ours)
    assert (len(report.filled), report.new, report.unused) == (637, [], [])
    assert state['neck.convs.0.conv.weight'].shape == (256, 256, 1, 1)
    assert state['neck.convs.3.conv.weight'].shape == (256, 2048, 1, 1)
    assert state['neck.extra_convs.0.conv.weight'].shape == (256, 2048, 3, 3)
    assert state['mask_feat_head.conv_pred.conv.weight'].shape == (256, 128, 1, 1)
    assert state['mask_feat_head.convs_all_levels.3.conv0.conv.weight'].shape[1] == 258
    assert state['level_embed'].shape == (4, 256)
    assert state['reference_points_fc.weight'].shape == (2, 256)
    assert state['decoder.layers.5.self_attn.attn.in_proj_weight'].shape == (768, 256)
    assert state['decoder.layers.0.cross_attn.sampling_offsets.weight'].shape == (256, 256)
    assert state['encoder.layers.2.ffn.layers.0.0.weight'].shape == (1024, 256)
    assert state['bbox_head.kernel_branches.5.4.weight'].shape == (254, 256)


@pytest.mark.parametrize('style', ['mmdet2-deformable-detr', 'mmdet3-deformable-detr'])
def test_the_start_checkpoint_fills_574_leaves_63_new_and_36_unused(original, ours, style):
    start = _start_checkpoint(original)
    assert len(start) == 610
    state = _mmdet3(start) if style.startswith('mmdet3') else start
    table = detect_style(state, convert.TABLES)
    assert table.style == style
    converted, report = convert_state_dict(state, table, ours)
    assert (len(report.filled), len(report.new), len(report.unused)) == (574, 63, 36)
    assert report.mismatched == []
    new = ('neck.convs.0.', 'mask_feat_head.', 'bbox_head.kernel_branches.')
    assert [sum(n.startswith(p) for n in report.new) for p in new] == [3, 24, 36]
    assert {n.split('.')[1] for n in report.unused} == {'reg_branches'}
    assert converted['neck.convs.1.conv.weight'].shape == (256, 512, 1, 1)


def test_styles_are_detected_by_names(original):
    ours_state, _ = convert_state_dict(original, convert.ISDA)
    assert detect_style(original, convert.TABLES) is convert.ISDA
    assert detect_style(ours_state, convert.TABLES) is convert.OURS
    with pytest.raises(CheckpointError, match='none of the known styles: isda, mmdet2'):
        detect_style(['backbone.conv1.weight', 'roi_head.x'], convert.TABLES)


def test_export_gives_the_original_names_back(original):
    state, _ = convert_state_dict(original, convert.ISDA)
    back, _ = convert_state_dict(state, invert(convert.ORIGINAL))
    assert back.keys() == original.keys()
    assert all(back[name] is original[name] for name in original)


def test_two_stage_and_box_refinement_are_refused_with_a_reason(original):
    start = _start_checkpoint(original)
    extra = {'bbox_head.transformer.enc_output.weight': _tensor((256, 256))}
    with pytest.raises(CheckpointError, match='two-stage'):
        convert_state_dict({**start, **extra}, convert.MMDET2_DEFORMABLE_DETR)
    mmdet3 = {**_mmdet3(start), 'memory_trans_fc.weight': _tensor((256, 256))}
    with pytest.raises(CheckpointError, match='two-stage'):
        convert_state_dict(mmdet3, convert.MMDET3_DEFORMABLE_DETR)
    refined = {**start, 'bbox_head.reg_branches.3.0.bias': torch.ones(256)}
    for unequal in ('error', 'last'):
        with pytest.raises(CheckpointError, match='box refinement'):
            convert_state_dict(refined, convert.MMDET2_DEFORMABLE_DETR, unequal_copies=unequal)


def test_unequal_copies_of_the_class_layer_are_named(original):
    broken = {**original, 'bbox_head.cls_branches.5.bias': torch.ones(80)}
    with pytest.raises(CheckpointError, match=r'1 shared .*cls_branches\.0\.bias'):
        convert_state_dict(broken, convert.ISDA)
    state, _ = convert_state_dict(broken, convert.ISDA, unequal_copies='last')
    assert all(state[f'bbox_head.cls_branches.{i}.bias'].eq(1).all() for i in range(6))


def test_other_class_counts_drop_the_class_layer(original):
    state, _ = convert_state_dict(original, convert.ISDA)
    kept, dropped = drop_class_layer(state, convert.ISDA, 5)
    assert len(dropped) == 12 and len(kept) == 625
