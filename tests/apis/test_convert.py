"""Conversion of files; the tables themselves are tested with their methods."""

import hashlib

import pytest
import torch

from isda_suite.apis import convert as api
from isda_suite.apis.convert import ConversionOptions, convert_checkpoint
from isda_suite.apis.model import build_model
from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.load import load_into
from isda_suite.engine.errors import ConfigError
from isda_suite.methods.isda import convert as tables
from tests.apis.tiny_isda import start_checkpoint, write_isda_config
from tests.checkpoint.probes import write_probes

CLASSES = ('ant', 'bee', 'cat')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A tiny ISDA config and a Deformable-DETR checkpoint of mmdet 2 that fits it."""
    where = tmp_path_factory.mktemp('convert')
    config = write_isda_config(where, num_classes=3)
    torch.manual_seed(0)
    model = build_model(config)
    state = start_checkpoint(model.state_dict())
    torch.save({'state_dict': state, 'meta': {'CLASSES': CLASSES}}, where / 'start.pth')
    return where


def _convert(files, destination, **options):
    report = convert_checkpoint(files / 'start.pth', destination, ConversionOptions(**options))
    return report, torch.load(destination)


def test_a_start_checkpoint_becomes_one_of_ours(files, tmp_path):
    report, got = _convert(files, tmp_path / 'a.pth', config=files / 'isda.py')
    model = build_model(files / 'isda.py')
    assert len(report.filled) + len(report.new) == len(model.state_dict())
    new = ('neck.convs.0.', 'mask_feat_head.', 'bbox_head.kernel_branches.')
    assert all(name.startswith(new) for name in report.new)
    assert all('reg_branches' in name for name in report.unused) and report.unused
    loaded = load_into(model, tmp_path / 'a.pth', strict=False)
    assert sorted(loaded.missing) == sorted(report.new) and not loaded.unexpected
    source = torch.load(files / 'start.pth')['state_dict']
    assert torch.equal(model.neck.convs[1].conv.weight, source['neck.convs.0.conv.weight'])
    digest = hashlib.sha256((files / 'start.pth').read_bytes()).hexdigest()
    assert got['meta']['source_sha256'] == digest
    assert got['meta']['dataset_meta']['classes'] == CLASSES
    assert got['meta']['method'] == 'isda'
    assert got['meta']['converted_from'] == 'mmdet2-deformable-detr'


def test_another_class_count_leaves_the_class_layer_new(files, tmp_path):
    config = write_isda_config(tmp_path, num_classes=5)
    with pytest.raises(CheckpointError, match=r'cls_branches.*--num-classes 5'):
        _convert(files, tmp_path / 'a.pth', config=config)
    assert not (tmp_path / 'a.pth').exists()
    report, got = _convert(files, tmp_path / 'a.pth', config=config, num_classes=5)
    assert {n.split('.')[1] for n in report.new if 'bbox_head' in n} == {
        'kernel_branches',
        'cls_branches',
    }
    assert 'dataset_meta' not in got['meta']


def test_export_and_import_give_the_same_weights(files, tmp_path):
    torch.manual_seed(1)
    model = build_model(files / 'isda.py')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'ours.pth')
    export = ConversionOptions(to_original=True)
    convert_checkpoint(tmp_path / 'ours.pth', tmp_path / 'original.pth', export)
    names = torch.load(tmp_path / 'original.pth')['state_dict']
    assert 'bbox_head.transformer.level_embeds' in names and 'level_embed' not in names
    convert_checkpoint(tmp_path / 'original.pth', tmp_path / 'back.pth')
    back = torch.load(tmp_path / 'back.pth')['state_dict']
    # Level embeddings are uninitialised memory here, in which there may be a NaN.
    exact = dict(rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(dict(back), dict(model.state_dict()), **exact)
    with pytest.raises(CheckpointError, match='names of isda_suite already'):
        convert_checkpoint(tmp_path / 'ours.pth', tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="style 'isda'; only a checkpoint"):
        convert_checkpoint(tmp_path / 'original.pth', tmp_path / 'a.pth', export)


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(method='other'), ConfigError, 'known: defvistr, idip, isda'),
        (dict(style='other'), ConfigError, 'mmdet2-deformable-detr'),
        (dict(style='isda'), CheckpointError, "names are those of 'mmdet2-deformable-detr'"),
        (dict(num_classes=0), ConfigError, 'at least 1'),
        (dict(to_original=True, num_classes=3), ConfigError, 'neither a config nor'),
    ],
)
def test_options_that_do_not_fit_are_refused(files, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        _convert(files, tmp_path / 'a.pth', **options)
    assert not (tmp_path / 'a.pth').exists()


def test_a_result_is_named_as_what_it_is(files, tmp_path):
    with pytest.raises(ConfigError, match=r'a \.pth is written here'):
        _convert(files, tmp_path / 'a.safetensors')
    assert not (tmp_path / 'a.safetensors').exists()


def test_the_source_is_never_overwritten(files):
    before = (files / 'start.pth').read_bytes()
    with pytest.raises(ConfigError, match='is the source'):
        _convert(files, files / 'start.pth')
    assert (files / 'start.pth').read_bytes() == before


def test_code_in_the_source_is_refused(tmp_path):
    trace = tmp_path / 'ran'
    for file in write_probes(tmp_path, trace):
        with pytest.raises(UnsafeCheckpointError):
            convert_checkpoint(file, tmp_path / 'out.pth')
    assert not trace.exists() and not (tmp_path / 'out.pth').exists()


def test_every_room_with_tables_is_found():
    assert 'isda' in api.methods_with_tables()
    assert tables.ORIGINAL in tables.TABLES and tables.OURS in tables.TABLES
