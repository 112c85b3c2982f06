"""Counts of parameters and multiply-adds, against formulas and against mmengine's counter."""

import json
import sys

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from isda_suite.apis.performance.complexity import _formulas, count_model
from isda_suite.ops import deform_conv2d, ms_deform_attn, ms_deform_attn_fused
from tests.apis.tiny_defvistr import write_defvistr_config
from tests.apis.tiny_isda import write_isda_config
from tests.tools.in_process import call_tool
from tests.tools.running import run


def _macs(function):
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with torch.no_grad(), counter:
        function()
    return counter.get_total_flops() // 2


def test_deformable_attention_is_counted_by_its_samples():
    value, shapes = torch.randn(2, 26, 3, 8), torch.tensor([[4, 5], [2, 3]])
    starts = torch.tensor([0, 20])
    locations, weights = torch.rand(2, 7, 3, 2, 4, 2), torch.rand(2, 7, 3, 2, 4)
    expected = 2 * 7 * 3 * 2 * 4 * 8 * 5
    assert _macs(lambda: ms_deform_attn(value, shapes, starts, locations, weights)) == expected
    reference = torch.rand(2, 7, 2, 2)
    operands = (reference, locations, weights)
    assert _macs(lambda: ms_deform_attn_fused(value, shapes, starts, *operands)) == expected
    sizes = [(4, 5), (2, 3)]
    assert _macs(lambda: ms_deform_attn_fused(value, sizes, None, *operands)) == expected


def test_deformable_convolution_is_counted_as_a_convolution_of_samples():
    image, weight = torch.randn(2, 4, 8, 9), torch.randn(6, 4, 3, 3)
    offset = torch.randn(2, 18, 8, 9)
    expected = 2 * 8 * 9 * (6 * 4 * 9 + 4 * 9 * 5)
    assert _macs(lambda: deform_conv2d(image, offset, None, weight, padding=1)) == expected


def test_fused_attention_is_counted():
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8)
    attend = nn.functional.scaled_dot_product_attention
    assert _macs(lambda: attend(q, k, k)) == 2 * 2 * 3 * 5 * 7 * 8


def test_plain_layers_are_counted_as_mmengine_does():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))
    image = torch.randn(2, 3, 8, 8)
    analyzer = FlopAnalyzer(model, (image,))
    wanted = analyzer.total()
    assert _macs(lambda: model(image)) == wanted > 0


def test_the_parts_of_a_model_add_up(tmp_path):
    found = count_model(write_isda_config(tmp_path, 3), 64, 96, 'cpu')
    total, parts = found.modules[0], {one.name: one for one in found.modules}
    children = [one for one in found.modules[1:] if '.' not in one.name]
    assert sum(one.parameters for one in children) == pytest.approx(total.parameters, rel=0.01)
    assert sum(one.macs for one in children) == total.macs == sum(found.by_operator.values())
    assert parts['decoder'].macs > 0 and parts['query_embedding'].macs == 0
    assert any('ms_deform_attn' in name for name in found.by_operator)
    assert found.clip_len is None and found.input_hw[0] >= 64


def test_a_module_has_what_its_parts_do_outside_of_it(tmp_path):
    """The mask branch of DefVisTR's head runs by a method of the head, not by its call."""
    found = count_model(write_defvistr_config(tmp_path), 32, 48, 'cpu')
    parts = {one.name: one.macs for one in found.modules}
    assert parts['head'] >= parts['head.mask_branch'] > 0
    assert found.clip_len == 3 and parts['decoder'] > 0


def test_the_command_shows_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    config, out = write_isda_config(tmp_path, 3), tmp_path / 'new/counts.json'
    words = (config, '--height', 64, '--width', 96, '--depth', 1, '--out', out, '--device', 'cpu')
    assert call_tool(monkeypatch, 'tools/analysis/count_flops.py', *words) == 0
    text = capsys.readouterr().out
    assert 'mask_feat_head' in text and 'cls_branches' not in text
    modules = json.loads(out.read_text())['modules']
    assert any(one['name'].startswith('bbox_head.cls_branches') for one in modules)


def test_models_of_other_libraries_are_counted_in_a_process_of_their_own():
    """Nothing else has loaded our operators there."""
    code = 'from isda_suite.apis.performance.complexity import _formulas; print(len(_formulas()))'
    done = run(sys.executable, '-c', code)
    assert int(done.stdout.split()[-1]) >= 3, done.stderr
