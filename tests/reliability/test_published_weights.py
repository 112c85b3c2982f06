"""Weights are published, used by every command, and refused by every command once changed."""

import pytest
import torch

from isda_suite.apis.model import load_model
from isda_suite.cli import main
from isda_suite.engine.metafile import enter
from tests.engine import toy_segmentor
from tests.engine.toy import write_coco, write_config
from tests.reliability.commands import CHECKPOINT_READERS

SUFFIXES = ('.pth', '.safetensors')
READERS = {name: CHECKPOINT_READERS[name] for name in CHECKPOINT_READERS if name != 'convert'}
# `segment` takes a segmentor, `predict-video` a model of clips, `export` one that has a form for
# it; these weights are of a toy for instances in images.
OF_THIS_MODEL = [name for name in READERS if name not in ('segment', 'predict-video', 'export')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train, publish the last checkpoint into `out`, and return the folder."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder, write_coco(folder / 'data'))
    assert main(['train', str(config), '--work-dir', str(folder / 'w')]) == 0
    assert main(['publish', str(folder / 'w/iter_4.pth'), str(folder / 'out/toy')]) == 0
    return folder


@pytest.fixture
def published(trained, tmp_path, monkeypatch):
    """Return a copy of the configuration and of both files, which a test may spoil."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, trained / 'data')
    toy_segmentor.write_config(tmp_path, tmp_path / 'data')
    (tmp_path / 'data').symlink_to(trained / 'data')
    for file in (trained / 'out').iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return {file.suffix: file for file in tmp_path.glob('toy-*')}


def _call(words, file, capsys):
    code = main([word.replace('FILE', str(file)) for word in words])
    said = capsys.readouterr().err
    assert 'Traceback' not in said
    return code, said


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('reader', [name for name in OF_THIS_MODEL if name != 'resume'])
def test_every_command_takes_published_weights(published, capsys, reader, suffix):
    assert _call(READERS[reader], published[suffix], capsys)[0] == 0


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_published_weights_are_those_that_were_trained(published, trained, suffix):
    before = torch.load(trained / 'w/iter_4.pth', weights_only=False)['state_dict']
    model = load_model('toy.py', published[suffix], device='cpu')
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.dataset_meta['classes'] == ('red', 'green')


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_run_is_not_resumed_from_weights_alone(published, capsys, suffix):
    code, said = _call(READERS['resume'], published[suffix], capsys)
    assert code == 2
    assert 'not how far a training had come (no message_hub)' in said
    assert f'load_from={published[suffix]}' in said


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('reader', READERS)
def test_one_flipped_byte_stops_every_command(published, capsys, reader, suffix):
    file = published[suffix]
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    code, said = _call(READERS[reader], file, capsys)
    assert code == 2
    assert f'the name says {file.stem[-8:]}' in said and 'download it again' in said


@pytest.mark.parametrize('reader', [name for name in OF_THIS_MODEL if name != 'publish'])
def test_the_metafile_beside_the_config_knows_the_whole_hash(published, tmp_path, capsys, reader):
    """A file may be made to agree with eight digits of a name, not with sixty-four."""
    file = published['.safetensors'].rename(tmp_path / 'toy.safetensors')
    (tmp_path / 'metafile.yml').write_text('Models:\n  - Name: toy\n    Config: toy.py\n')
    enter(tmp_path / 'metafile.yml', 'toy', {file.name: 'a' * 64})
    code, said = _call(READERS[reader], file, capsys)
    assert code == 2
    assert 'is not the published one' in said and 'metafile.yml says aaaa' in said


@pytest.mark.parametrize('percent', [0, 50, 99])
def test_a_torn_file_is_named(published, tmp_path, capsys, percent):
    whole = published['.safetensors'].read_bytes()
    torn = tmp_path / 'toy.safetensors'
    torn.write_bytes(whole[: len(whole) * percent // 100])
    code, said = _call(READERS['test'], torn, capsys)
    assert code == 2
    assert 'is not a complete safetensors file' in said
