"""Archives that try to leave their folder, and honest ones."""

import io
import tarfile
import zipfile

import pytest

from isda_suite.apis.archives import UnsafeArchiveError, extract


def _tar(path, entries):
    with tarfile.open(path, 'w') as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def _zip(path, entries):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _zip_with_link(path):
    info = zipfile.ZipInfo('link')
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(info, '/etc/passwd')
    return path


UNSAFE = {
    'up.tar': lambda path: _tar(path, {'ok': b'1', '../evil': b'2'}),
    'absolute.tar': lambda path: _tar(path, {'x': (tarfile.SYMTYPE, '/etc/passwd')}),
    'link.tar': lambda path: _tar(path, {'x': (tarfile.SYMTYPE, '../..'), 'x/evil': b'2'}),
    'device.tar': lambda path: _tar(path, {'x': (tarfile.CHRTYPE, '')}),
    'up.zip': lambda path: _zip(path, {'ok': b'1', '../evil': b'2'}),
    'absolute.zip': lambda path: _zip(path, {'/evil': b'2'}),
    'drive.zip': lambda path: _zip(path, {'C:/evil': b'2'}),
    'link.zip': _zip_with_link,
}


@pytest.mark.parametrize('name', UNSAFE)
def test_unsafe_archives_write_nothing(tmp_path, name):
    archive = UNSAFE[name](tmp_path / name)
    folder = tmp_path / 'inner' / 'out'
    with pytest.raises(UnsafeArchiveError):
        extract(archive, folder)
    assert not list(folder.iterdir())
    assert not list(tmp_path.rglob('evil'))


@pytest.mark.parametrize('make', [_tar, _zip])
def test_bombs_are_refused_by_bytes_and_by_files(tmp_path, make):
    suffix = 'tar' if make is _tar else 'zip'
    large = make(tmp_path / f'large.{suffix}', {'x': b'0' * 2_000_000})
    with pytest.raises(UnsafeArchiveError, match='2000000 bytes, more than the limit of 1000000'):
        extract(large, tmp_path / 'out', max_bytes=1_000_000)
    many = make(tmp_path / f'many.{suffix}', {str(index): b'' for index in range(12)})
    with pytest.raises(UnsafeArchiveError, match='12 entries, more than the limit of 10'):
        extract(many, tmp_path / 'out', max_files=10)


@pytest.mark.parametrize('make', [_tar, _zip])
def test_folders_are_merged_and_files_replaced(tmp_path, make):
    archive = make(tmp_path / f'a.{make.__name__[1:]}', {'d/new': b'1', 'd/old': b'2'})
    (tmp_path / 'out' / 'd').mkdir(parents=True)
    (tmp_path / 'out' / 'd' / 'old').write_text('before')
    (tmp_path / 'out' / 'd' / 'other').write_text('kept')
    assert extract(archive, tmp_path / 'out') == 2
    found = {path.name: path.read_text() for path in (tmp_path / 'out' / 'd').iterdir()}
    assert found == {'new': '1', 'old': '2', 'other': 'kept'}
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['d']


@pytest.mark.parametrize('name', ['cut.zip', 'cut.tar'])
def test_a_cut_archive_leaves_nothing(tmp_path, name):
    make = _zip if name.endswith('zip') else _tar
    archive = make(tmp_path / name, {str(index): bytes(range(256)) * 40 for index in range(5)})
    archive.write_bytes(archive.read_bytes()[:20_000] if make is _tar else b'PK\x03\x04 cut')
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
