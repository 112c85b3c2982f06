"""Images and videos from addresses."""

import gc

import numpy as np
import pytest

from isda_suite import Segmenter
from isda_suite.apis.downloads import remote_files
from isda_suite.apis.downloads.remote_files import FetchedFile, file_name
from isda_suite.apis.downloads.transfer import TransferOptions
from isda_suite.datasets.errors import DataError
from tests.apis.misbehaving_server import running_server
from tests.apis.tiny_models import write_config, write_image
from tests.apis.tiny_video_models import scene
from tests.apis.video_files import write_video


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp('served')
    video = write_video(where / 'v.mp4', scene(3)).read_bytes()
    image = write_image(where / 'a.png').read_bytes()
    return {'a.png': image, 'b%20c.png': image, 'v.mp4': video, 'untold': video}


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    config = write_config(tmp_path_factory.mktemp('model'))
    return Segmenter(config, 'random', device='cpu', score_thr=0.0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(remote_files, '_PAUSE_S', 0.0)


def test_an_image_is_fetched_and_lives_as_long_as_its_result(segmenter, files):
    with running_server(files) as (address, _):
        result = segmenter(f'{address}/good/a.png')
    path = result.stored.path
    assert (result.source, result.name) == (f'{address}/good/a.png', 'a')
    assert path.read_bytes() == files['a.png'] and result.image().shape == (40, 56, 3)
    del result
    gc.collect()
    assert not path.parent.exists()


def test_videos_and_lists_of_addresses_are_taken(segmenter, files):
    with running_server(files) as (address, _):
        for name in ('v.mp4', 'untold'):  # told by its name, and by how it begins
            assert len(segmenter(f'{address}/good/{name}')) == 3
        results = segmenter([f'{address}/good/a.png', f'{address}/good/b%20c.png'])
    assert [result.name for result in results] == ['a', 'b c']
    assert np.array_equal(results[0].image(), results[1].image())


def test_addresses_of_a_list_are_fetched_in_turn_and_broken_ones_can_be_skipped(segmenter, files):
    with running_server(files) as (address, requests):
        urls = [f'{address}/{path}' for path in ('good/a.png', 'missing/x.png', 'good/b%20c.png')]
        stream = segmenter.stream(urls)
        assert next(stream).name == 'a' and len(requests) == 1
        with pytest.raises(DataError, match='answered 404'):
            next(stream)
        for several in (urls, iter(urls)):
            assert [r.name for r in segmenter(several, bad_images='skip')] == ['a', 'b c']


@pytest.mark.parametrize(
    'path, said',
    [
        ('missing/a.png', 'answered 404'),
        ('cut/a.png', r'the connection ended after \d+ of \d+ bytes \(3 tries\)$'),
        ('elsewhere/a.png', 'only https is allowed'),
        ('good/absent.png', 'answered 404'),
    ],
)
def test_what_cannot_be_fetched_is_named_with_the_cause(segmenter, files, path, said):
    with running_server(files) as (address, _), pytest.raises(DataError, match=said) as caught:
        segmenter(f'{address}/{path}')
    assert f'{address}/{path}' in str(caught.value) or 'elsewhere' in path


def test_too_large_files_are_not_fetched(files):
    large = {'big.png': b'x' * (3 << 20)}
    with running_server(large) as (address, _), pytest.raises(DataError, match='allowed'):
        FetchedFile(f'{address}/good/big.png', max_mb=2)


def test_a_file_that_is_no_image_is_refused(segmenter):
    with running_server({'a.png': b'<html>sorry</html>'}) as (address, _):
        with pytest.raises(DataError, match='text, not an image'):
            segmenter(f'{address}/good/a.png')


@pytest.mark.parametrize(
    'url, name',
    [
        ('https://x/a/b.png?c=d#e', 'b.png'),
        ('https://x/', 'download'),
        ('https://x/..%2F..%2Fetc%2Fpasswd', 'passwd'),
        ('https://x/a%00b%5Cc.png', 'abc.png'),
        ('https://x/..', 'download'),
    ],
)
def test_names_of_files_stay_in_their_folder(url, name):
    assert file_name(url) == name


def test_no_limit_is_the_default_of_data_sets():
    assert TransferOptions().max_bytes is None
