"""Archives, honest ones and ones that try to leave their folder or to fill the disk."""

import io
import tarfile
import zipfile


def write_tar(path, entries, mode='w'):
    """Write name -> content; a tuple (type, target) is a link or a device."""
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, entries):
    """Write name -> content; a tuple (Unix mode, target) is a link."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(content, tuple):
                info.external_attr, content = content[0] << 16, content[1]
            archive.writestr(info, content)
    return path


# File name -> how it is written and what it holds. Unpacked without care, `evil` appears outside.
UNSAFE = {
    'up.tar': (write_tar, {'ok': b'1', '../evil': b'2'}),
    'absolute.tar': (write_tar, {'ok': b'1', '/evil': b'2'}),
    'out.tar': (write_tar, {'x': (tarfile.SYMTYPE, '/etc/passwd')}),
    'through.tar': (write_tar, {'x': (tarfile.SYMTYPE, '../..'), 'x/evil': b'2'}),
    'hard.tar': (write_tar, {'x': (tarfile.LNKTYPE, '../../victim'), 'ok': b'1'}),
    'device.tar': (write_tar, {'x': (tarfile.CHRTYPE, '')}),
    'up.zip': (write_zip, {'ok': b'1', '../evil': b'2'}),
    'absolute.zip': (write_zip, {'/evil': b'2'}),
    'drive.zip': (write_zip, {'C:/evil': b'2'}),
    'link.zip': (write_zip, {'x': (0o120777, '/etc/passwd')}),
}


def write_unsafe(folder, name):
    """Write the archive of this name from the list above."""
    write, entries = UNSAFE[name]
    return write(folder / name, entries)
