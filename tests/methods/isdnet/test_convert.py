"""The tables of ISDNet against the names and shapes recorded from the published code."""

import pytest
import torch

from isda_suite.apis.convert import ConversionOptions, convert_checkpoint
from isda_suite.checkpoint.aliases import with_aliases
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.renaming import (
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)
from isda_suite.methods.isdnet import convert
from tests.golden.files import GOLDEN_DIR
from tests.golden.loader import load
from tests.methods.isdnet.build import CONFIG, small_isdnet


@pytest.fixture(scope='module')
def original():
    """Entries of an original checkpoint: 440 tensors, 120 of them under a second name too."""
    return {
        k: torch.from_numpy(v) for k, v in load(GOLDEN_DIR / 'isdnet_model.json').params().items()
    }


@pytest.fixture
def file(original, tmp_path):
    path = tmp_path / 'original.pth'
    torch.save({'state_dict': original, 'meta': {}}, path)
    return path


def test_every_entry_of_the_published_model_is_filled(file, tmp_path):
    options = ConversionOptions(method='isdnet', config=CONFIG)
    report = convert_checkpoint(file, tmp_path / 'ours.pth', options)
    assert report.style == 'isdnet' and report.new == [] and not report.mismatched
    assert len(report.filled) == 440 and len(report.unused) == 120


def test_export_gives_the_original_file_back_with_its_second_names(original, file, tmp_path):
    ours, back = tmp_path / 'ours.pth', tmp_path / 'back.pth'
    convert_checkpoint(file, ours, ConversionOptions(method='isdnet'))
    convert_checkpoint(ours, back, ConversionOptions(method='isdnet', to_original=True))
    found = torch.load(back)['state_dict']
    assert found.keys() == original.keys()
    assert all(torch.equal(found[name], value) for name, value in original.items())


def test_the_names_with_the_reducer_convert_both_ways():
    params = load(GOLDEN_DIR / 'isdnet_modules.json').cases['r50'].params()
    original = {name: torch.empty(value.shape) for name, value in params.items()}
    ours, _ = convert_state_dict(original, convert.ISDNET)
    back, _ = convert_state_dict(ours, invert(convert.ISDNET))
    assert with_aliases(back, convert.ISDNET).keys() == original.keys()


def test_unknown_names_are_listed(original):
    """Earlier internal names of the original exist."""
    state = {**original, 'refine_head.stdc_block.conv.weight': torch.ones(1)}
    with pytest.raises(CheckpointError, match=r'1 names are unknown.*stdc_block\.conv\.weight'):
        convert_state_dict(state, convert.ISDNET)


def test_the_styles_are_told_apart(original):
    stdc = load(GOLDEN_DIR / 'isdnet_modules.json').cases['stdc'].params()
    assert detect_style(original, convert.TABLES) is convert.ISDNET
    assert detect_style(stdc, convert.TABLES) is convert.STDC_SEG
    assert detect_style(small_isdnet().state_dict(), convert.TABLES) is convert.OURS


def test_weights_of_stdc_seg_become_those_of_the_shallow_branch():
    stdc = load(GOLDEN_DIR / 'isdnet_modules.json').cases['stdc'].params()
    state = {name: torch.from_numpy(value) for name, value in stdc.items()}
    state['features.6.conv_list.0.conv.weight'] = state['linear.weight'] = torch.ones(1)
    ours, report = convert_state_dict(state, convert.STDC_SEG)
    assert sorted(report.unused) == ['features.6.conv_list.0.conv.weight', 'linear.weight']
    assert ours.keys() == small_isdnet().shallow_branch.state_dict().keys()


def test_the_class_layers_are_those_of_all_classifiers(original):
    ours, _ = convert_state_dict(original, convert.ISDNET)
    _, dropped = drop_class_layer(ours, convert.ISDNET, 5)
    assert len(dropped) == 10
