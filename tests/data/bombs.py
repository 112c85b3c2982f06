"""Small files that tell of many pixels."""

import struct
import zlib


def claims_pixels(side):
    """Return a png of a few bytes whose header tells of side x side pixels."""

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = [chunk(b'IHDR', header), chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)
