"""Archives that try to leave their folder, and honest ones."""

import tarfile

import pytest

from isda_suite.apis.downloads.archives import UnsafeArchiveError, extract
from tests.apis.archive_probes import UNSAFE, write_tar, write_unsafe, write_zip


@pytest.mark.parametrize('name', UNSAFE)
def test_unsafe_archives_write_nothing(tmp_path, name):
    archive = write_unsafe(tmp_path, name)
    (tmp_path / 'victim').write_text('mine')
    folder = tmp_path / 'inner' / 'out'
    with pytest.raises(UnsafeArchiveError):
        extract(archive, folder)
    assert not list(folder.iterdir())
    assert not list(tmp_path.rglob('evil'))
    assert (tmp_path / 'victim').stat().st_nlink == 1


@pytest.mark.parametrize('make', [write_tar, write_zip])
def test_bombs_are_refused_by_bytes_and_by_files(tmp_path, make):
    suffix = 'tar' if make is write_tar else 'zip'
    large = make(tmp_path / f'large.{suffix}', {'x': b'0' * 2_000_000})
    with pytest.raises(UnsafeArchiveError, match='2000000 bytes or more; the limit is 1000000'):
        extract(large, tmp_path / 'out', max_bytes=1_000_000)
    many = make(tmp_path / f'many.{suffix}', {str(index): b'' for index in range(12)})
    with pytest.raises(UnsafeArchiveError, match='more than 10 entries'):
        extract(many, tmp_path / 'out', max_files=10)


def test_a_list_without_end_is_not_read_to_its_end(tmp_path):
    """Compressed, a thousand entries take as much room as one."""
    archive = write_tar(tmp_path / 'many.tar.gz', {f'{i}': b'' for i in range(2000)}, 'w:gz')
    archive.write_bytes(archive.read_bytes()[:-500])  # reading on would find the cut
    with pytest.raises(UnsafeArchiveError, match='more than 10 entries'):
        extract(archive, tmp_path / 'out', max_files=10)


@pytest.mark.parametrize('make', [write_tar, write_zip])
def test_folders_are_merged_and_files_replaced(tmp_path, make):
    archive = make(tmp_path / f'a.{make.__name__[-3:]}', {'d/new': b'1', 'd/old': b'2'})
    (tmp_path / 'out' / 'd').mkdir(parents=True)
    (tmp_path / 'out' / 'd' / 'old').write_text('before')
    (tmp_path / 'out' / 'd' / 'other').write_text('kept')
    assert extract(archive, tmp_path / 'out') == 2
    found = {path.name: path.read_text() for path in (tmp_path / 'out' / 'd').iterdir()}
    assert found == {'new': '1', 'old': '2', 'other': 'kept'}
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['d']


@pytest.mark.parametrize('name', ['cut.zip', 'cut.tar'])
def test_a_cut_archive_leaves_nothing(tmp_path, name):
    make = write_zip if name.endswith('zip') else write_tar
    archive = make(tmp_path / name, {str(index): bytes(range(256)) * 40 for index in range(5)})
    archive.write_bytes(archive.read_bytes()[:20_000] if make is write_tar else b'PK\x03\x04 cut')
    with pytest.raises(ValueError, match='no whole archive'):
        extract(archive, tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


def test_a_python_without_safe_unpacking_says_which_has_it(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / 'a.tar', 'w'):
        pass
    for name in ('data_filter', 'FilterError'):
        monkeypatch.delattr(tarfile, name)
    with pytest.raises(UnsafeArchiveError, match=r'3\.10\.12, 3\.11\.4 and later'):
        extract(tmp_path / 'a.tar', tmp_path / 'out')
