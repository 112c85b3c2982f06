"""The download command against a local server."""

import functools
import hashlib
import io
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from isda_suite.apis.downloads import dataset_sources
from isda_suite.apis.downloads.dataset_sources import DatasetSources, Source
from isda_suite.apis.downloads.download import LOCK_NAME, DownloadOptions, download_all, sources_of
from isda_suite.apis.downloads.transfer import TransferOptions
from tests.apis.misbehaving_server import running_server

TOOL = Path(__file__).parents[2] / 'tools' / 'misc' / 'download_dataset.py'
QUICK = TransferOptions(allow_http=True, num_tries=1, timeout_s=2, progress=False)


def _zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name.replace('__', '/'), content)
    return data.getvalue()


ARCHIVE = _zipped(train__a='1', train__b='2')
FILES = {'images.zip': ARCHIVE, 'notes.txt': b'hello'}


def _run(monkeypatch, *arguments):
    """Run the command in this process; give its exit code."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name='__main__')
    return ended.value.code


@pytest.fixture
def tiny(monkeypatch):
    """Put a data set of two small files into the table."""
    known = Source('https://x/images.zip', len(ARCHIVE), 'md5:' + hashlib.md5(ARCHIVE).hexdigest())
    files = (known, Source('https://x/notes.txt'))
    monkeypatch.setitem(dataset_sources.SOURCES, 'tiny', DatasetSources('data/tiny', files))


def test_files_are_fetched_checked_unpacked_and_left_alone_the_second_time(
    tiny, monkeypatch, tmp_path, capsys
):
    with running_server(FILES) as (address, requests):
        base = ['--dataset-name', 'tiny', '--save-dir', tmp_path, '--allow-http']
        base += ['--base-url', f'{address}/good', '--unzip']
        assert _run(monkeypatch, *base) == 0
        assert (tmp_path / 'train' / 'b').read_text() == '2'
        assert 'notes.txt' in (tmp_path / LOCK_NAME).read_text()
        assert _run(monkeypatch, *base, '--delete') == 0
        assert not (tmp_path / 'images.zip').exists()
        assert _run(monkeypatch, *base) == 0
        assert len(requests) == 2
    assert '2 of 2 files of tiny' in capsys.readouterr().out


def test_a_file_that_fails_is_named_and_the_exit_code_is_1(tiny, monkeypatch, tmp_path, capsys):
    with running_server({'notes.txt': b'hello'}) as (address, _):
        arguments = ['--dataset-name', 'tiny', '--save-dir', tmp_path, '--allow-http']
        assert _run(monkeypatch, *arguments, '--base-url', f'{address}/good') == 1
    captured = capsys.readouterr()
    assert 'failed: images.zip: ' in captured.err
    assert '404' in captured.err
    assert (tmp_path / 'notes.txt').read_text() == 'hello'
    assert '1 of 2 files' in captured.out


def test_an_unknown_name_gives_the_list_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, TOOL, '--dataset-name', 'coc2017'], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "'coco2017', 'lvis', 'voc2007'" in done.stderr
    with pytest.raises(KeyError, match='coco2017, lvis'):
        sources_of('coc2017')


def test_help_and_contradicting_options(monkeypatch, capsys):
    assert _run(monkeypatch, '--help') == 0
    assert _run(monkeypatch, '--delete') == 2
    assert 'needs --unzip' in capsys.readouterr().err
    assert _run(monkeypatch, '--threads', '0') == 2


def test_the_first_hash_is_kept_and_another_file_refused_later(tmp_path):
    options = DownloadOptions(transfer=QUICK)
    files = dict(FILES)
    with running_server(files) as (address, _):
        source = [Source(f'{address}/good/notes.txt')]
        assert download_all(source, tmp_path, options) == {}
        (tmp_path / 'notes.txt').unlink()
        files['notes.txt'] = b'other'
        errors = download_all(source, tmp_path, options)
    assert 'hash' in str(errors['notes.txt'])
    assert not (tmp_path / 'notes.txt').exists()


def test_a_file_that_was_there_before_is_checked_not_replaced(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    source = Source('https://x/notes.txt', size=5)
    errors = download_all([source], tmp_path, DownloadOptions(transfer=QUICK))
    assert 'move it away' in str(errors['notes.txt'])
    assert (tmp_path / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('content', ['{"notes.txt": {"url"', '[1, 2]'])
def test_a_lock_file_that_cannot_be_read_is_named(tiny, monkeypatch, tmp_path, capsys, content):
    (tmp_path / LOCK_NAME).write_text(content)
    assert _run(monkeypatch, '--dataset-name', 'tiny', '--save-dir', tmp_path) == 1
    said = capsys.readouterr().err
    assert LOCK_NAME in said and 'repair or remove it' in said and 'Traceback' not in said
    assert (tmp_path / LOCK_NAME).read_text() == content


@pytest.mark.parametrize(
    ('fault', 'failed'),
    [('cut', [*FILES]), ('missing', [*FILES]), ('slow', ['images.zip'])],  # too long to get through
)
def test_every_file_has_an_error_of_its_own(tiny, monkeypatch, tmp_path, capsys, fault, failed):
    once = functools.partial(TransferOptions, num_tries=1)
    monkeypatch.setattr('isda_suite.apis.downloads.transfer.TransferOptions', once)
    with running_server(FILES) as (address, _):
        arguments = ['--dataset-name', 'tiny', '--save-dir', tmp_path, '--allow-http']
        arguments += ['--base-url', f'{address}/{fault}', '--timeout-s', '0.4']
        assert _run(monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    assert all(f'failed: {name}: {address}/{fault}/{name}: ' in captured.err for name in failed)
    assert f'{2 - len(failed)} of 2 files' in captured.out
    assert not any((tmp_path / name).exists() for name in failed)


def test_another_file_than_the_table_says_is_refused(tiny, monkeypatch, tmp_path, capsys):
    other = bytearray(ARCHIVE)
    other[40] ^= 1
    with running_server({**FILES, 'images.zip': bytes(other)}) as (address, _):
        arguments = ['--dataset-name', 'tiny', '--save-dir', tmp_path, '--allow-http', '--unzip']
        assert _run(monkeypatch, *arguments, '--base-url', f'{address}/good') == 1
    said = capsys.readouterr().err
    assert 'failed: images.zip: ' in said and 'hash md5:' in said
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK_NAME] == ['notes.txt']


def test_plain_http_is_refused(tiny, monkeypatch, tmp_path, capsys):
    arguments = ['--dataset-name', 'tiny', '--save-dir', tmp_path]
    assert _run(monkeypatch, *arguments, '--base-url', 'http://127.0.0.1:9') == 1
    assert capsys.readouterr().err.count('only https is allowed') == 2
