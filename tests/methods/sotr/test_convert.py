"""The table of SOTR against the names and shapes recorded from the published code."""

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

from isda_suite.checkpoint.renaming import convert_state_dict, detect_style, invert
from isda_suite.methods.sotr import convert
from tests.golden.files import GOLDEN_DIR
from tests.golden.loader import load
from tests.methods.sotr.build import CONFIG


@pytest.fixture(scope='module')
def original():
    shapes = load(GOLDEN_DIR / 'sotr_model.json').std['params']
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def _state_dict(variant):
    cfg = Config.fromfile(CONFIG.with_name(CONFIG.name.replace('r50', variant))).model
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return MODELS.build(cfg).state_dict()


def test_every_original_name_has_a_place(original):
    shapes = {name: tuple(value.shape) for name, value in _state_dict('r50').items()}
    assert detect_style(original, convert.TABLES) is convert.SOTR
    state, report = convert_state_dict(original, convert.SOTR, shapes)
    assert (len(report.filled), report.unused, report.mismatched) == (549, [], [])
    assert all(name.endswith('num_batches_tracked') for name in report.new)
    assert detect_style(state, convert.TABLES) is convert.OURS


@pytest.mark.parametrize(('variant', 'names'), [('r50', 549), ('r101', 804), ('r101-dcn', 864)])
def test_export_gives_the_published_number_of_names(original, variant, names):
    state = _state_dict(variant)
    back, _ = convert_state_dict(state, invert(convert.ORIGINAL))
    assert len(back) == names
    assert set(original) <= set(back)
    again, _ = convert_state_dict(back, convert.SOTR)
    assert all(again[name] is state[name] for name in again)
