"""The table of SOLQ against the names and shapes recorded from the published code."""

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

from isda_suite.checkpoint.aliases import with_aliases
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.renaming import convert_state_dict, detect_style, invert
from isda_suite.methods.solq import convert
from tests.golden.files import GOLDEN_DIR
from tests.golden.loader import load
from tests.methods.solq.build import CONFIG


@pytest.fixture(scope='module')
def original():
    """Entries outside the backbone; the class rows hold their number."""
    shapes = load(GOLDEN_DIR / 'solq_heads.json').std['params']
    state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    rows = torch.arange(91.0)
    for layer in range(6):
        state[f'class_embed.{layer}.weight'] = rows[:, None].expand(91, 384)
        state[f'class_embed.{layer}.bias'] = rows
    return state


@pytest.fixture(scope='module')
def model():
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return MODELS.build(Config.fromfile(CONFIG).model)


def test_every_original_name_has_a_place(original, model):
    assert detect_style(original, convert.TABLES) is convert.SOLQ
    state, report = convert_state_dict(original, convert.SOLQ)
    assert (len(original), len(state), len(report.unused)) == (368, 302, 66)
    names = {name for name in model.state_dict() if not name.startswith('backbone.')}
    assert set(state) == names
    assert detect_style(state, convert.TABLES) is convert.OURS


def test_the_rows_of_the_80_classes_are_taken_for_a_model_of_these(original, model):
    state, _ = convert_state_dict(original, convert.SOLQ)
    kept, left_out, notes = convert.fit_to_model(state, model)
    assert left_out == [] and len(notes) == 1
    rows = kept['bbox_head.cls_branches.5.bias'].tolist()
    assert len(rows) == 80 and rows[:13] == [*range(1, 12), 13, 14] and rows[-1] == 90
    for name, value in model.state_dict().items():
        assert name.startswith('backbone.') or kept[name].shape == value.shape
    model_of_five = type('Model', (), {'bbox_head': type('Head', (), {'num_classes': 5})})
    assert convert.fit_to_model(state, model_of_five)[0] == state


def test_export_gives_the_original_names_back(original):
    state, _ = convert_state_dict(original, convert.SOLQ)
    back, _ = convert_state_dict(state, invert(convert.ORIGINAL))
    back = with_aliases(back, convert.ORIGINAL)
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], original[name]) for name in original)


def test_the_backbone_is_that_of_torchvision(model):
    state = {k: v for k, v in model.state_dict().items() if k.startswith('backbone.')}
    back, _ = convert_state_dict(state, invert(convert.ORIGINAL))
    assert 'backbone.0.body.layer1.0.downsample.1.running_var' in back
    again, _ = convert_state_dict(back, convert.SOLQ)
    assert all(again[name] is state[name] for name in again)
    assert len(again) == 265


@pytest.mark.parametrize(
    'copy', ['vector_embed.3.layers.0', 'transformer.decoder.bbox_embed.1.layers.0']
)
def test_unequal_copies_are_named(original, copy):
    broken = {**original, f'{copy}.bias': original[f'{copy}.bias'] + 1}
    with pytest.raises(CheckpointError, match=r'1 shared tensors have unequal copies'):
        convert_state_dict(broken, convert.SOLQ)
