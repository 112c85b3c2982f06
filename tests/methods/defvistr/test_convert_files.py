"""Files of checkpoints through the converter and back into models."""

import pytest
import torch

from isda_suite.apis.convert import ConversionOptions, convert_checkpoint
from isda_suite.apis.model import build_model
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import load_into
from tests.methods.defvistr.build import small_config, small_defvistr


def _write_config(folder, **changes):
    text = f'default_scope = "mmdet"\nmodel = {small_config(**changes)!r}\n'
    (folder / 'defvistr_tiny.py').write_text(text)
    return folder / 'defvistr_tiny.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A model of ours, and the same under the original names."""
    where = tmp_path_factory.mktemp('weights')
    model = small_defvistr()
    torch.save({'state_dict': model.state_dict()}, where / 'ours.pth')
    export = ConversionOptions(method='defvistr', to_original=True)
    report = convert_checkpoint(where / 'ours.pth', where / 'original.pth', export)
    assert all(name.endswith('num_batches_tracked') for name in report.unused) and report.unused
    return where


def test_export_and_import_give_the_same_model(files, tmp_path):
    options = ConversionOptions(method='defvistr', config=_write_config(tmp_path))
    report = convert_checkpoint(files / 'original.pth', tmp_path / 'back.pth', options)
    assert report.style == 'defvistr' and not report.notes
    model = build_model(options.config)
    load_into(model, tmp_path / 'back.pth')
    want = torch.load(files / 'ours.pth')['state_dict']
    got = model.state_dict()
    assert all(torch.equal(got[name], value) for name, value in want.items())


@pytest.mark.parametrize('source', ['ours.pth', 'original.pth'])
def test_a_checkpoint_is_cut_to_shorter_clips_with_a_note(files, tmp_path, source):
    config = _write_config(tmp_path, num_frames=2)
    model = build_model(config)
    with pytest.raises(CheckpointError, match='clips of 3 frames, the model for 2'):
        load_into(model, files / 'ours.pth')
    options = ConversionOptions(method='defvistr', config=config)
    report = convert_checkpoint(files / source, tmp_path / 'short.pth', options)
    text = str(report)
    assert 'note   the encoder keeps the levels of the first 2 of 3 frames' in text
    assert 'note   the queries of the first 2 frames are kept (2 of 3)' in text
    load_into(model, tmp_path / 'short.pth')
    with torch.no_grad():
        logits, _, _ = model.eval()(torch.randn(1, 2, 3, 64, 64), mode='tensor')
    assert torch.isfinite(logits).all()


def test_our_names_need_a_config_to_be_fitted_to(files, tmp_path):
    with pytest.raises(CheckpointError, match='load it as it is'):
        options = ConversionOptions(method='defvistr')
        convert_checkpoint(files / 'ours.pth', tmp_path / 'a.pth', options)


def test_another_number_of_classes_leaves_the_class_layer_new(files, tmp_path):
    config = _write_config(tmp_path, head=dict(num_classes=7))
    options = ConversionOptions(method='defvistr', config=config)
    with pytest.raises(CheckpointError, match=r'cls_branch.*\(6, 96\).*\(9, 96\).*--num-classes 7'):
        convert_checkpoint(files / 'original.pth', tmp_path / 'a.pth', options)
    options = ConversionOptions(method='defvistr', config=config, num_classes=7)
    report = convert_checkpoint(files / 'original.pth', tmp_path / 'a.pth', options)
    new = [name for name in report.new if not name.endswith('num_batches_tracked')]
    assert new == ['head.cls_branch.weight', 'head.cls_branch.bias']


def test_another_backbone_is_refused(files, tmp_path):
    backbone = {**small_config()['backbone'], 'depth': 34}
    options = ConversionOptions(
        method='defvistr', config=_write_config(tmp_path, backbone=backbone)
    )
    with pytest.raises(CheckpointError, match=r'2, 2, 2, 2 blocks.*3, 4, 6, 3 blocks'):
        convert_checkpoint(files / 'original.pth', tmp_path / 'a.pth', options)
    assert not (tmp_path / 'a.pth').exists()
