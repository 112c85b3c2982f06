"""The tables of DefVisTR against the names and shapes recorded from the published code."""

import json
import os
from pathlib import Path

import pytest
import torch

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import compare, require_fit
from isda_suite.checkpoint.renaming import (
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)
from isda_suite.methods.defvistr import convert
from tests.methods.defvistr.build import build_defvistr, model_config

GOLDEN = Path(os.environ.get('ISDA_GOLDEN_DIR', Path(__file__).parents[2] / 'data' / 'golden'))
FILES = {
    'instance_token': 'defvistr_forward.json',
    'frame_query': 'defvistr_framequery_forward.json',
    'vistr': 'defvistr_vistr_forward.json',
}


def _standard(variant):
    return json.loads((GOLDEN / FILES[variant]).read_text())['std']


def _original(variant):
    """Entries of an original checkpoint; tensors without memory of their own."""
    shapes = _standard(variant)['params']
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def _model(variant, **changes):
    """Build the model without memory."""
    with torch.device('meta'):
        return build_defvistr(_standard(variant)['config'] | changes)


def _shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _fit(state, table, model):
    converted, _ = convert_state_dict(state, table)
    kept, left_out, notes = convert.fit_to_model(converted, model)
    _, report = convert_state_dict(kept, convert.OURS, _shapes(model))
    new = [name for name in report.new if not name.endswith('num_batches_tracked')]
    assert not report.mismatched
    return kept, left_out, notes, new


def _load(model, state):
    """Do what loading does, but for the copies, which a model without memory does not take."""
    require_fit(compare(model, {'state_dict': state}, 'here.pth'), model, strict=True)


@pytest.fixture(scope='module')
def original():
    return _original('instance_token')


@pytest.fixture(scope='module')
def model():
    return _model('instance_token')


@pytest.mark.parametrize(
    ('variant', 'style', 'tensors', 'numbers'),
    [
        ('instance_token', 'defvistr', 528, 67_692_993),
        ('frame_query', 'defvistr', 527, 67_423_329),
        ('vistr', 'vistr', 503, 57_222_369),
    ],
)
def test_every_original_name_has_a_place(variant, style, tensors, numbers):
    state, model = _original(variant), _model(variant)
    table = detect_style(state, convert.TABLES)
    assert table.style == style
    converted, report = convert_state_dict(state, table, _shapes(model))
    assert len(state) == len(converted) == tensors
    assert sum(value.numel() for value in converted.values()) == numbers
    assert not report.mismatched and not report.unused
    assert all(name.endswith('num_batches_tracked') for name in report.new)
    assert convert.fit_to_model(converted, model) == (converted, [], [])


def test_the_parameters_are_counted_as_published(model):
    """The published code takes weights and biases of batch norms (26 560 each) for constants."""
    frozen_affine = 2 * 26_560
    assert sum(p.numel() for p in model.parameters()) == 67_586_753 + frozen_affine
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 67_364_353


def test_names_are_those_of_mmdet(original):
    state, _ = convert_state_dict(original, convert.DEFVISTR)
    shapes = {
        'backbone.layer1.0.conv1.weight': (64, 64, 1, 1),
        'input_proj.weight': (384, 2048, 1, 1),
        'encoder.layers.5.self_attn.sampling_offsets.weight': (3552, 384),
        'encoder.layers.0.norms.1.bias': (384,),
        'encoder.layers.0.ffn.layers.0.0.weight': (2048, 384),
        'decoder.layers.2.self_attn.attn.in_proj_weight': (1152, 384),
        'decoder.layers.2.cross_attn.attn.out_proj.bias': (384,),
        'decoder.layers.2.ffn.layers.1.weight': (384, 2048),
        'decoder.layers.2.norms.2.weight': (384,),
        'decoder.post_norm.weight': (384,),
        'instance_tokens.weight': (160, 384),
        'query_embedding.weight': (36, 384),
        'head.cls_branch.weight': (42, 384),
        'head.reg_branch.4.bias': (4,),
        'head.mask_branch.insmask_head.9.weight': (1, 12, 1, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_export_leads_back_to_the_original_names(original, model):
    ours, _ = convert_state_dict(original, convert.DEFVISTR)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith('num_batches_tracked')}
    assert len(counters) == 53
    back, report = convert_state_dict({**ours, **counters}, invert(convert.ORIGINAL))
    assert list(back) == list(original) and report.unused == list(counters)


def test_a_model_without_masks_has_no_prefix(original):
    state = {k.removeprefix('vistr.'): v for k, v in original.items() if k.startswith('vistr.')}
    table = detect_style(state, convert.TABLES)
    assert table.style == 'defvistr-boxes'
    assert len(convert_state_dict(state, table)[0]) == len(state)


def _detr():
    """A DETR of 384 channels with masks: 92 classes, 100 queries, no deformable convolution."""
    state = {}
    for name, value in _original('vistr').items():
        if name.startswith(('insmask_head.', 'mask_head.conv_offset', 'mask_head.dcn')):
            continue
        state[name.replace('vistr.', 'detr.', 1)] = value
    state['detr.query_embed.weight'] = torch.zeros(100, 384)
    state['detr.class_embed.weight'] = torch.zeros(92, 384)
    state['mask_head.lay5.weight'] = torch.zeros(24, 48, 3, 3)
    return state


def test_a_detr_gives_all_but_attention_classes_queries_and_clip_masks(model):
    state = _detr()
    table = detect_style(state, convert.TABLES)
    assert table.style == 'detr'
    kept, left_out, notes, new = _fit(state, table, model)
    assert len(kept) == len(state) - 4 - len(left_out)
    assert len(left_out) == 6 * 4 and 'dense there and deformable here' in notes[0]
    fresh = (
        'encoder.layers', 'instance_tokens', 'query_embedding', 'head.cls_branch',
        'head.mask_branch.insmask_head', 'head.mask_branch.mask_head.conv_offset',
        'head.mask_branch.mask_head.dcn',
    )  # fmt: skip
    assert all(name.startswith(fresh) for name in new)
    assert len(new) == 6 * 8 + 2 + 2 + 14 + 3
    # The baseline takes the attention as well.
    _, left_out, notes, new = _fit(state, table, _model('vistr'))
    assert not left_out and not notes and not any(name.startswith('encoder') for name in new)


def test_of_a_deformable_detr_only_the_backbone_is_taken(original, model):
    state = {
        k.removeprefix('vistr.'): v for k, v in original.items() if k.startswith('vistr.backbone')
    }
    count = len(state)
    rest = {
        'transformer.level_embed': torch.zeros(4, 256),
        'input_proj.0.0.weight': torch.zeros(256, 512, 1, 1),
        'transformer.encoder.layers.0.self_attn.sampling_offsets.weight': torch.zeros(256, 256),
        'query_embed.weight': torch.zeros(300, 512),
    }
    table = detect_style({**state, **rest}, convert.TABLES)
    assert table.style == 'deformable-detr'
    converted, report = convert_state_dict({**state, **rest}, table, _shapes(model))
    assert len(converted) == count == 265 and report.unused == list(rest)
    ours, _ = convert_state_dict(original, convert.DEFVISTR)
    mmdet = {k: v for k, v in ours.items() if k.startswith('backbone.')}
    table = detect_style({**mmdet, 'level_embed': torch.zeros(4, 256)}, convert.TABLES)
    assert table.style == 'mmdet-deformable-detr'


def test_another_backbone_is_refused_both_ways(original):
    deep = _model('instance_token', depth=101)
    ours, _ = convert_state_dict(original, convert.DEFVISTR)
    with pytest.raises(CheckpointError, match=r'has 3, 4, 6, 3 blocks.*3, 4, 23, 3 blocks.*depth'):
        convert.fit_to_model(ours, deep)
    with pytest.raises(CheckpointError, match='has 3, 4, 23, 3 blocks'):
        convert.fit_to_model(deep.state_dict(), _model('instance_token'))


def test_shorter_clips_keep_the_first_frames_and_the_tokens(original):
    name = 'vistr.transformer.encoder.layers.3.self_attn.sampling_offsets.bias'
    state = {**original, name: torch.arange(8 * 37 * 12.0)}
    state['vistr.query_embed.weight'] = torch.arange(36.0)[:, None].expand(36, 384)
    short = _model('instance_token', num_frames=5, num_queries=5, query_layout='instance_major')
    kept, left_out, notes, new = _fit(state, convert.DEFVISTR, short)
    assert not left_out and not new
    assert 'first 5 of 36 frames and of the instance tokens (24 entries cut)' in notes[0]
    got = kept['encoder.layers.3.self_attn.sampling_offsets.bias'].view(8, 6, 12)
    want = torch.arange(8 * 37 * 12.0).view(8, 37, 12)
    assert torch.equal(got, want[:, [0, 1, 2, 3, 4, 36]])
    assert kept['query_embedding.weight'][:, 0].tolist() == [0, 1, 2, 3, 4]
    # With the published layout a row stands for no frame.
    short = _model('instance_token', num_frames=5, num_queries=5)
    _, left_out, notes, new = _fit(state, convert.DEFVISTR, short)
    assert left_out == new == ['query_embedding.weight'] and 'stays new' in notes[1]


def test_shorter_clips_of_the_other_variants():
    for variant in ('frame_query', 'vistr'):
        short = _model(variant, num_frames=4, num_queries=40)
        table = convert.VISTR if variant == 'vistr' else convert.DEFVISTR
        _, left_out, notes, new = _fit(_original(variant), table, short)
        assert not left_out and not new and '40 of 360' in notes[-1]


def test_longer_clips_are_refused(original):
    ours, _ = convert_state_dict(original, convert.DEFVISTR)
    longer = _model('instance_token', num_frames=40, num_queries=40)
    with pytest.raises(CheckpointError, match=r'clips of 36 frames, the config for 40.*shorter'):
        convert.fit_to_model(ours, longer)


@pytest.mark.parametrize('variant', FILES)
def test_loading_weights_of_another_clip_length_says_so(variant):
    queries = 5 if variant == 'instance_token' else 50
    state = _model(variant, num_frames=5, num_queries=queries).state_dict()
    state = {k: torch.zeros(()).expand(v.shape) for k, v in state.items()}
    message = r'clips of 5 frames, the model for 36: set num_frames=5.*convert_checkpoint\.py'
    with pytest.raises(CheckpointError, match=message):
        _load(_model(variant), state)


def test_a_class_layer_has_two_outputs_more_than_classes(original, model):
    ours, _ = convert_state_dict(original, convert.DEFVISTR)
    assert drop_class_layer(ours, convert.DEFVISTR, 40)[1] == []
    dropped = drop_class_layer(ours, convert.DEFVISTR, 25)[1]
    assert dropped == ['head.cls_branch.weight', 'head.cls_branch.bias']
    few = _model('instance_token', num_logits=27)
    with pytest.raises(CheckpointError, match=r'--num-classes 25'):
        _load(few, ours)


def test_a_box_model_leaves_masks_out(original):
    config = model_config(_standard('instance_token')['config'])
    assert config['head']['mask_branch'] == {}
    model = _model('instance_token')
    model.head.mask_branch = None
    _, left_out, notes, new = _fit(original, convert.DEFVISTR, model)
    assert not new and len(left_out) == 4 + 8 + 10 + 6 + 3 + 14
    assert notes == ['the model has no masks (45 entries left out)']
