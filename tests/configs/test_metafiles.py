"""Every metafile names every configuration, in the form that readers of model indices expect."""

import re

import pytest
import yaml

from isda_suite.apis.zoo import ORIGINAL, OURS, TASKS
from isda_suite.engine.metafile import read_models
from tests.tools.running import ROOT

METAFILES = sorted(ROOT.glob('configs/*/metafile.yml'))
IDS = [file.parent.name for file in METAFILES]
# What a metric is called in the metafiles of mmdet and mmseg, and what those of ours add.
METRICS = re.compile(r'(box|mask) AP( gain)?|mIoU( without unknown)?|IoU of \w+|pixel accuracy')


def content_of(file):
    return yaml.safe_load(file.read_text(encoding='utf-8'))


def relative(folder):
    return {f'{folder.relative_to(ROOT).as_posix()}/{file.name}' for file in folder.glob('*.py')}


def test_the_index_names_every_metafile():
    index = content_of(ROOT / 'model-index.yml')
    assert index == {'Import': [file.relative_to(ROOT).as_posix() for file in METAFILES]}
    folders = {path.name for path in (ROOT / 'configs').iterdir() if path.name != '_base_'}
    assert folders == set(IDS)


@pytest.mark.parametrize('file', METAFILES, ids=IDS)
def test_a_metafile_names_every_configuration_once(file):
    models = content_of(file)['Models']
    assert {model['Config'] for model in models} == relative(file.parent)
    assert len(models) == len(relative(file.parent))
    for model in models:
        assert model['Config'] == f'configs/{file.parent.name}/{model["Name"]}.py'


@pytest.mark.parametrize('file', METAFILES, ids=IDS)
def test_a_collection_says_what_it_is(file):
    content = content_of(file)
    assert set(content) == {'Collections', 'Models'}
    names = [one['Name'] for one in content['Collections']]
    assert {model['In Collection'] for model in content['Models']} == set(names)
    for one in content['Collections']:
        assert set(one) == {'Name', 'Metadata', 'Paper', 'README'}
        assert one['Metadata']['Task'] in TASKS and one['Metadata']['Architecture']
        assert set(one['Paper']) == {'Title', 'URL'} and one['Paper']['URL'].startswith('https://')
        assert (ROOT / one['README']).is_file()


@pytest.mark.parametrize('file', METAFILES, ids=IDS)
def test_an_entry_has_the_known_keys_only(file):
    known = {'Name', 'In Collection', 'Config', 'Metadata', 'Results', 'Weights', 'SHA256'}
    for model in content_of(file)['Models']:
        assert set(model) <= known, model
        assert ('Weights' in model) == ('SHA256' in model), model
        if 'Weights' in model:
            hashes = model['SHA256']
            assert model['Weights'].rpartition('/')[2] in hashes
            assert all(re.fullmatch('[0-9a-f]{64}', digest) for digest in hashes.values())
            assert any(name.endswith('.safetensors') for name in hashes)


@pytest.mark.parametrize('file', METAFILES, ids=IDS)
def test_every_number_says_whose_it_is(file):
    for model in read_models(file):
        for result in model.get('Results') or []:
            assert set(result) == {'Task', 'Dataset', 'Source', 'Metrics'}, model['Name']
            assert result['Task'] == model['Metadata']['Task'] and result['Dataset']
            assert result['Source'] in (ORIGINAL, OURS)
            assert result['Metrics']
            for name, value in result['Metrics'].items():
                assert METRICS.fullmatch(name), name
                assert isinstance(value, float) and 0 <= value <= 100


@pytest.mark.parametrize('file', METAFILES, ids=IDS)
def test_numbers_of_a_metafile_stand_in_the_table_beside_it(file):
    """One of the two would otherwise grow old unseen."""
    rows = (file.parent / 'README.md').read_text(encoding='utf-8').splitlines()
    for model in content_of(file)['Models']:
        row = ' '.join(line for line in rows if line[:1] == '|' and f'({model["Name"]}.py)' in line)
        for result in model.get('Results') or []:
            for value in result['Metrics'].values():
                assert re.search(rf'(?<![\d.]){re.escape(f"{value:g}")}', row), (model, value)
