import pytest
import yaml
from mmengine.config import Config

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.integrity import hex_digest
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.metafile import describe, enter, require_published_content

TEXT = """\
Collections:
  - Name: tiny  # the method

Models:
  # the first
  - Name: tiny
    Config: configs/tiny.py
    Results:
      - Task: Instance Segmentation
        Metrics:
          mask AP: 38.7

  - Name: small
    Config: configs/small.py
"""
HASHES = {'t-aaaaaaaa.safetensors': 'a' * 64, 't-bbbbbbbb.pth': 'b' * 64}


@pytest.fixture
def metafile(tmp_path):
    file = tmp_path / 'metafile.yml'
    file.write_text(TEXT)
    return file


def test_an_entry_is_added_and_nothing_else_changes(metafile):
    enter(metafile, 'tiny', HASHES)
    before, after = TEXT.splitlines(), metafile.read_text().splitlines()
    new = [line for line in after if line not in before]
    assert [line for line in after if line not in new] == before
    assert [line.removeprefix('    ') for line in new] == describe(HASHES)
    assert yaml.safe_load(metafile.read_text())['Models'][0]['SHA256'] == HASHES


@pytest.mark.parametrize('model', ['tiny', 'small'])
def test_later_weights_take_the_place_of_earlier_ones(metafile, model):
    enter(metafile, model, {'old-cccccccc.pth': 'c' * 64})
    enter(metafile, model, HASHES)
    text = metafile.read_text()
    assert 'old' not in text
    entries = {one['Name']: one for one in yaml.safe_load(text)['Models']}
    assert entries[model]['Weights'] == 't-bbbbbbbb.pth'
    enter(metafile, model, HASHES)
    assert metafile.read_text() == text


def test_a_file_laid_out_in_another_way_is_left_alone(metafile):
    metafile.write_text('Models: [{Name: tiny, Config: a.py}]\n')
    with pytest.raises(ConfigError, match=r'by hand:\nWeights: t-bbbbbbbb\.pth\nSHA256:\n  t-aaa'):
        enter(metafile, 'tiny', HASHES)
    assert metafile.read_text() == 'Models: [{Name: tiny, Config: a.py}]\n'


def test_unknown_models_and_files_are_named(metafile, tmp_path):
    with pytest.raises(ConfigError, match=r"0 models with the Name 'tny'.*tiny, small"):
        enter(metafile, 'tny', HASHES)
    with pytest.raises(ConfigError, match=r'no metafile .*absent\.yml'):
        enter(tmp_path / 'absent.yml', 'tiny', HASHES)


def _config(folder):
    (folder / 'c.py').write_text('a = 1\n')
    return Config.fromfile(folder / 'c.py')


@pytest.mark.parametrize('layout', ['table', 'list'])
def test_weights_of_another_content_are_refused(metafile, tmp_path, layout):
    weights = tmp_path / 'w' / 'tiny.pth'
    weights.parent.mkdir()
    weights.write_bytes(b'right')
    enter(metafile, 'tiny', {'tiny.pth': hex_digest(weights)})
    if layout == 'list':
        metafile.write_text(yaml.safe_dump(yaml.safe_load(metafile.read_text())['Models']))
    cfg = _config(tmp_path)
    named = [weights, None, 'https://x/tiny.pth', tmp_path / 'absent' / 'tiny.pth']
    require_published_content(cfg, named)
    right = hex_digest(weights)
    weights.write_bytes(b'rigth')
    with pytest.raises(CheckpointError) as error:
        require_published_content(cfg, named)
    for word in (str(weights), right, hex_digest(weights), str(metafile)):
        assert word in str(error.value)


def test_without_a_metafile_or_a_file_every_weight_is_accepted(tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'x')
    require_published_content(_config(tmp_path), [tmp_path / 'a.pth'])
    require_published_content(Config({'a': 1}), [tmp_path / 'a.pth'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('Models: [', 'is not a yaml file'),
        ('!!python/object/apply:os.mkdir ["{trace}"]', 'is not a yaml file of plain data'),
        ('Models: [{{Name: tiny, SHA256: abc}}]', 'SHA256 of tiny must be a table'),
    ],
)
def test_a_metafile_that_cannot_be_read_is_named(metafile, tmp_path, text, message):
    trace = tmp_path / 'ran'
    metafile.write_text(text.format(trace=trace))
    with pytest.raises(ConfigError, match=rf'metafile\.yml.*{message}'):
        require_published_content(_config(tmp_path), [tmp_path / 'a.pth'])
    assert not trace.exists()
