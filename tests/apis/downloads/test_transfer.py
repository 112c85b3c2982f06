"""One file over http from a server that misbehaves."""

import hashlib
import random

import pytest

from isda_suite.apis.downloads.dataset_sources import SOURCES, Source
from isda_suite.apis.downloads.transfer import DownloadError, TransferOptions, fetch
from tests.apis.misbehaving_server import running_server

CONTENT = random.Random(0).randbytes(100_000)
DIGEST = 'sha256:' + hashlib.sha256(CONTENT).hexdigest()
OPTIONS = TransferOptions(allow_http=True, timeout_s=0.4, num_tries=2, pause_s=0.01, progress=False)


@pytest.fixture(scope='module')
def address():
    with running_server({'file.bin': CONTENT, 'once.bin': CONTENT}) as (address, _):
        yield address


def _source(address, fault, name='file.bin', **known):
    return Source(f'{address}/{fault}/{name}', **known)


@pytest.mark.parametrize('fault', ['good', 'redirect', 'busy', 'cutonce', 'norange'])
def test_a_whole_file_arrives_in_the_end(address, tmp_path, fault):
    target = tmp_path / 'file.bin'
    fetch(_source(address, fault, size=len(CONTENT), digest=DIGEST), target, OPTIONS)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ['file.bin']


@pytest.mark.parametrize(
    ('fault', 'known', 'message'),
    [
        ('missing', {}, '404'),
        ('cut', {}, r'ended after \d+ of \d+ bytes.*2 tries.*goes on'),
        ('slow', {}, 'timed out'),
        ('elsewhere', {}, 'only https'),
        ('good', {'digest': 'sha256:' + '0' * 64}, 'hash sha256:.*expected sha256:000'),
        ('good', {'size': 7}, 'sends 100000 bytes, expected 7'),
        ('good', {'size': 200_000}, '100000 bytes, expected 200000'),
    ],
)
def test_a_wrong_file_never_appears(address, tmp_path, fault, known, message):
    target = tmp_path / 'file.bin'
    with pytest.raises(DownloadError, match=message):
        fetch(_source(address, fault, **known), target, OPTIONS)
    assert not target.exists()


def test_the_next_call_goes_on_where_the_connection_broke(tmp_path):
    with running_server({'file.bin': CONTENT}) as (address, requests):
        target = tmp_path / 'file.bin'
        once = TransferOptions(allow_http=True, num_tries=1, progress=False)
        with pytest.raises(DownloadError, match='50000 bytes are kept'):
            fetch(_source(address, 'cutonce'), target, once)
        fetch(_source(address, 'cutonce', digest=DIGEST), target, once)
        assert [wanted for _, wanted in requests] == [None, 'bytes=50000-']
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_continued(address, tmp_path):
    (tmp_path / 'file.bin.part').write_bytes(b'x' * 100)
    (tmp_path / 'file.bin.part.version').write_text('"v0"')
    fetch(_source(address, 'changed', digest=DIGEST), tmp_path / 'file.bin', OPTIONS)
    assert (tmp_path / 'file.bin').read_bytes() == CONTENT


def test_plain_http_is_refused(address, tmp_path):
    with pytest.raises(DownloadError, match='only https'):
        fetch(_source(address, 'good'), tmp_path / 'file.bin', TransferOptions(progress=False))


def test_a_disk_that_is_too_small_is_noticed_before_the_transfer(address, tmp_path):
    with pytest.raises(DownloadError, match=r'needs \d+ more bytes'):
        fetch(_source(address, 'good', size=10**18), tmp_path / 'file.bin', OPTIONS)


def test_every_public_address_is_https_and_names_are_unique():
    for dataset in SOURCES.values():
        names = [source.file_name for source in dataset.files]
        assert len(set(names)) == len(names)
        assert all(source.url.startswith('https://') for source in dataset.files)
