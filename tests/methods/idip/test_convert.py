"""The tables of IDIP against the names and shapes recorded from the published code."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from isda_suite.apis.convert import ConversionOptions, convert_checkpoint
from isda_suite.apis.model import build_model
from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.renaming import (
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)
from isda_suite.methods.idip import convert

GOLDEN = Path(os.environ.get('ISDA_GOLDEN_DIR', Path(__file__).parents[2] / 'data' / 'golden'))
BUFFERS = ['alphas_cumprod', 'pixel_mean', 'pixel_std']


@pytest.fixture(scope='module')
def original():
    """Entries of an original checkpoint; tensors without memory of their own."""
    shapes = json.loads((GOLDEN / 'idip_full.json').read_text())['std']['params']
    return {
        name: torch.zeros(1).expand(shape) if shape else torch.tensor(0)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope='module')
def ours():
    with torch.device('meta'):
        model = build_model('configs/idip/idip_r50_2xb8-90k_coco.py')
    return model.state_dict()


def test_every_original_name_has_a_place(original, ours):
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    state, report = convert_state_dict(original, convert.IDIP, shapes)
    assert len(original) == 503 and len(report.filled) == 500 and report.unused == BUFFERS
    assert not report.mismatched
    assert all(name.endswith('num_batches_tracked') for name in report.new) and report.new
    assert detect_style(original, convert.TABLES) is convert.IDIP
    assert detect_style(state, convert.TABLES) is convert.OURS


def test_export_gives_the_original_names_back(original, ours):
    back, report = convert_state_dict(ours, invert(convert.ORIGINAL))
    assert sorted(back) == sorted(set(original) - set(BUFFERS))
    assert all(back[name].shape == original[name].shape for name in back)
    assert len(report.unused) == 53, 'the original counts no batches in frozen norms'


def test_other_class_counts_drop_both_class_layers(original):
    state, _ = convert_state_dict(original, convert.IDIP)
    kept, dropped = drop_class_layer(state, convert.IDIP, 5)
    assert len(dropped) == 4 and len(kept) == 496


def _backbone(original):
    start = 'backbone.bottom_up.'
    state = {k.removeprefix(start): v for k, v in original.items() if k.startswith(start)}
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in state.items()}
    return {**made, 'stem.fc.weight': np.ones((1000, 8), np.float32), 'stem.fc.bias': np.ones(1000)}


def test_a_pickled_backbone_fills_the_backbone_alone(original, ours, tmp_path):
    source, arrays = tmp_path / 'r50.pkl', _backbone(original)
    content = {'model': arrays, 'matching_heuristics': True, '__author__': 'third_party'}
    source.write_bytes(pickle.dumps(content))
    options = ConversionOptions(method='idip', config='configs/idip/idip_r50_2xb8-90k_coco.py')
    report = convert_checkpoint(source, tmp_path / 'ours.pth', options)
    assert report.style == 'detectron2-resnet'
    assert report.unused == ['stem.fc.weight', 'stem.fc.bias']
    state = torch.load(tmp_path / 'ours.pth')['state_dict']
    backbone = {n for n in ours if n.startswith('backbone.') and 'num_batches' not in n}
    assert set(state) == backbone
    want = torch.from_numpy(arrays['res4.5.conv2.norm.running_var'])
    assert torch.equal(state['backbone.layer3.5.bn2.running_var'], want)
    want = torch.from_numpy(arrays['res2.0.shortcut.weight'])
    assert torch.equal(state['backbone.layer1.0.downsample.0.weight'], want)


def test_a_pickle_with_code_is_refused(tmp_path):
    source, trace = tmp_path / 'r50.pkl', tmp_path / 'ran'

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    source.write_bytes(pickle.dumps({'model': {'stem.conv1.weight': Attack()}}))
    with pytest.raises(UnsafeCheckpointError):
        convert_checkpoint(source, tmp_path / 'ours.pth', ConversionOptions(method='idip'))
    assert not trace.exists()


def test_caffe_style_backbones_are_refused_with_the_reason(tmp_path):
    source = tmp_path / 'r50.pkl'
    arrays = {name: np.ones(3, np.float32) for name in ('conv1_w', 'res2_0_branch2a_w')}
    source.write_bytes(pickle.dumps({'blobs': arrays}))
    with pytest.raises(CheckpointError, match=r'BGR, the stride in the 1x1 .* torchvision layout'):
        convert_checkpoint(source, tmp_path / 'ours.pth', ConversionOptions(method='idip'))
