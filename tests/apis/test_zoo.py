"""The models of the package, and weights from paths, the cache and addresses."""

import hashlib
import sys

import pytest

from isda_suite.apis import zoo
from isda_suite.apis.downloads.transfer import TransferOptions
from isda_suite.apis.zoo import ZooModel, find_model, list_models, local_weights, resolve_weights
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.engine.errors import ConfigError
from tests.tools.running import ROOT, run

from .misbehaving_server import running_server

CONTENT = b'weights of a model'
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAMED = f'tiny-{DIGEST[:8]}.pth'
FILES = {'tiny.pth': CONTENT, NAMED: CONTENT, 'other-00000000.pth': CONTENT}
OPTIONS = TransferOptions(allow_http=True, timeout_s=1, num_tries=1, progress=False)


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv('ISDA_CACHE_DIR', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'weights'


@pytest.fixture
def entry(monkeypatch):
    """Put one model into the zoo."""

    def put(**values):
        model = ZooModel('tiny', 'isda', 'instance', ROOT / 'configs/isda/isda_sample.py', **values)
        monkeypatch.setattr(zoo, '_read_zoo', lambda root: (model,))
        return model

    return put


def test_every_configuration_is_a_model():
    shipped = {file for file in ROOT.glob('configs/*/*.py') if file.parent.name != '_base_'}
    assert {model.config for model in list_models()} == shipped
    assert {model.task for model in list_models()} == {'instance', 'video', 'semantic'}


def test_models_are_chosen_by_task_and_method():
    assert {model.method for model in list_models(task='video')} == {'defvistr'}
    assert {model.task for model in list_models(method='isdnet')} == {'semantic'}
    assert list_models('video', 'isda') == []
    with pytest.raises(ConfigError, match=r"no task 'vidio'.*instance, semantic, video"):
        list_models('vidio')
    with pytest.raises(ConfigError, match=r"no method 'x'.*defvistr, idip"):
        list_models(method='x')


def test_a_model_says_whose_its_numbers_are():
    model = find_model('isda_r50_3x_coco')
    (claim,) = model.claims
    assert str(claim) == "mask AP 38.7 on COCO test-dev (original's claim)"
    assert 'measured' in find_model('isda_sample').claims[0].source
    assert model.weights is None and 'train or convert' in model.note
    with pytest.raises(ConfigError, match=r"no model 'isda_smple'.*nearest: isda_sample"):
        find_model('isda_smple')


def test_a_path_stands_for_itself(tmp_path):
    file = tmp_path / 'a.safetensors'
    file.write_bytes(CONTENT)
    assert resolve_weights(file) == resolve_weights(str(file), DIGEST.upper()) == file
    with pytest.raises(CheckpointError, match=f'is {DIGEST}, expected 00'):
        resolve_weights(file, '0' * 64)


def test_an_address_is_fetched_once(cached):
    with running_server(FILES) as (address, requests):
        url = f'{address}/good/tiny.pth'
        file = resolve_weights(f'{url}#sha256={DIGEST}', transfer=OPTIONS)
        assert file.read_bytes() == CONTENT and file.is_relative_to(cached)
        assert resolve_weights(url, DIGEST, OPTIONS) == file
    assert len(requests) == 1
    assert resolve_weights(url, transfer=OPTIONS) == file


def test_addresses_with_the_same_file_name_have_files_of_their_own():
    with running_server(FILES) as (address, _):
        one = resolve_weights(f'{address}/good/tiny.pth', transfer=OPTIONS)
        two = resolve_weights(f'{address}/redirect/tiny.pth', transfer=OPTIONS)
    assert one != two


@pytest.mark.parametrize(
    ('path', 'sha256', 'message'),
    [
        ('missing/tiny.pth', None, '404.*give its path, or put it at .*tiny.pth'),
        ('cut/tiny.pth', None, 'connection ended'),
        ('good/tiny.pth', '0' * 64, 'hash sha256:.*expected sha256:000'),
        ('good/other-00000000.pth', None, f'is {DIGEST}, expected 00000000'),
        ('', None, 'names no file'),
    ],
)
def test_wrong_or_absent_files_are_refused(path, sha256, message):
    with running_server(FILES) as (address, _), pytest.raises(CheckpointError, match=message):
        resolve_weights(f'{address}/{path}', sha256, OPTIONS)


def test_a_cached_file_that_was_changed_is_refused():
    with running_server(FILES) as (address, _):
        url = f'{address}/good/{NAMED}'
        resolve_weights(url, transfer=OPTIONS).write_bytes(b'weights of another')
        with pytest.raises(CheckpointError, match=r'hash sha256|is not what was expected'):
            resolve_weights(url, transfer=OPTIONS)


def test_plain_http_is_refused_unless_allowed():
    with pytest.raises(CheckpointError, match='only https'):
        resolve_weights('http://127.0.0.1/a.pth')


def test_a_copy_of_a_file_can_take_the_place_of_the_network(cached):
    with running_server({}) as (address, _):
        url = f'{address}/good/tiny.pth'
        with pytest.raises(CheckpointError) as error:
            resolve_weights(url, DIGEST, OPTIONS)
        place = next(cached.glob('*')) / 'tiny.pth'
        assert str(place) in str(error.value)
        place.write_bytes(CONTENT)
        assert resolve_weights(url, DIGEST, OPTIONS) == place


def test_a_name_of_the_zoo_stands_for_its_weights(entry, cached):
    with running_server(FILES) as (address, requests):
        url = f'{address}/good/{NAMED}'
        entry(weights=url, sha256=DIGEST, hashes={NAMED: DIGEST})
        assert resolve_weights('tiny', transfer=OPTIONS).read_bytes() == CONTENT
        entry(weights=url, sha256='0' * 64)
        with pytest.raises(CheckpointError, match=f'is {DIGEST}, expected 000'):
            resolve_weights(url, transfer=OPTIONS)  # the zoo knows the hash of its addresses
    assert len(requests) == 1


def test_other_words_are_left_to_those_who_read_them(entry, cached):
    """Loaders of torchvision:// and the like have caches of their own; paths are checked later."""
    entry(weights='tiny.pth', hashes={'tiny.pth': DIGEST})
    cached.mkdir(parents=True)
    (cached / 'tiny.pth').write_bytes(CONTENT)
    assert local_weights('tiny') == str(cached / 'tiny.pth')
    for word in ('torchvision://resnet50', 'absent.pth', None):
        assert local_weights(word) == word


def test_safetensors_in_the_cache_go_before_pickles(entry, cached):
    hashes = {NAMED: DIGEST, 'tiny.safetensors': DIGEST}
    entry(weights=NAMED, sha256=DIGEST, hashes=hashes)
    with pytest.raises(CheckpointError, match=r'no address: put the file into .*weights'):
        resolve_weights('tiny')
    cached.mkdir(parents=True)
    for name in hashes:
        (cached / name).write_bytes(CONTENT)
    assert resolve_weights('tiny').name == 'tiny.safetensors'
    assert resolve_weights(NAMED).name == NAMED  # by the name of the file


def test_a_model_without_weights_and_an_unknown_name_say_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r'no weights published with this package: train or'):
        resolve_weights('isda_sample')
    with pytest.raises(CheckpointError, match=r'does not exist.*nearest: isda_sample'):
        resolve_weights('isda_sampl')
    with pytest.raises(CheckpointError, match='is a folder'):
        resolve_weights(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('ISDA_CACHE_DIR', str(tmp_path / 'file'))
    with pytest.raises(CheckpointError, match='set ISDA_CACHE_DIR'):
        resolve_weights('https://127.0.0.1/a.pth')


def test_the_cache_follows_the_convention(monkeypatch, tmp_path):
    monkeypatch.delenv('ISDA_CACHE_DIR')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert zoo.cache_folder() == tmp_path / 'isda_suite' / 'weights'


def test_the_zoo_is_read_without_the_stack():
    code = 'import sys; from isda_suite.apis.zoo import list_models; list_models(); '
    code += "print([m for m in ('torch', 'mmengine', 'cv2', 'numpy') if m in sys.modules])"
    done = run(sys.executable, '-c', code, timeout_s=20)
    assert done.stdout.strip() == '[]', done.stderr
