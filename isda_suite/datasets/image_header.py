"""What the header of an image file says, without decoding its pixels."""

import io
import warnings
from dataclasses import dataclass
from typing import IO, Any

#: The tag SamplesPerPixel.
_TIFF_BANDS = 277


@dataclass(frozen=True)
class Header:
    """Facts about an image.

    Args:
        size_hw: Height and width in pixels, as stored: rotation tags (EXIF) are ignored.
        channels: Channels of the file; an image with a colour table has one.
        deep: Whether a channel has more than 8 bits.
        transparent: Whether there is an alpha channel or a transparent colour.
        more_bands: Channels of a TIFF beyond grey, colour and transparency, such as infrared.
    """

    size_hw: tuple[int, int]
    channels: int
    deep: bool
    transparent: bool
    more_bands: int = 0

    def losses(self) -> list[str]:
        """Name what is lost when the image is read as 8-bit colour."""
        lost = []
        if self.deep:
            lost.append('more than 8 bits a channel: read as 8 bits')
        if self.transparent:
            lost.append('transparency: read without it')
        if self.more_bands:
            bands = f'{self.channels} bands'
            lost.append(f'{bands}: read without the last {self.more_bands}')
        return lost


def read_header(source: str | IO[bytes]) -> Header | None:
    """Read the header of an image.

    Args:
        source: A path, or a file opened for reading bytes.

    Returns:
        The header; ``None`` if Pillow does not know the format or the file is no image.

    Raises:
        OSError: if the file cannot be opened.
    """
    from PIL import Image

    try:
        with Image.open(source) as image:
            width, height = image.size
            known = len(image.getbands())
            # Pillow tells of the channels it would decode, a TIFF may hold more.
            channels = getattr(image, 'tag_v2', {}).get(_TIFF_BANDS, known)
            return Header(
                size_hw=(height, width),
                channels=channels,
                deep=_is_deep(image),
                transparent=image.has_transparency_data,
                more_bands=max(0, channels - known),
            )
    except (Image.DecompressionBombError, SyntaxError):
        return None
    except OSError as error:
        if error.errno is not None:
            raise
        return None  # Pillow's own: not identified, or cut off in the header


def tiff_bands(content: bytes) -> int | None:
    """Return the channels of a TIFF, also of one that Pillow cannot decode.

    Args:
        content: The file's bytes.

    Returns:
        The channels; ``None`` if this is no TIFF, or one without a whole header.
    """
    if content[:4] not in (b'II*\0', b'MM\0*'):
        return None
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tags = ImageFileDirectory_v2(content[:8])
            file = io.BytesIO(content)
            file.seek(tags.next)
            tags.load(file)
        return int(tags.get(_TIFF_BANDS, 1))
    # Pillow's reader raises errors of many kinds for broken files.
    except Exception:
        return None


def _is_deep(image: Any) -> bool:
    # Pillow's mode of a 16-bit colour image is that of an 8-bit one; how the pixels are stored
    # tells them apart: 'RGB;16B', 'I;16N', 'F;32F'.
    stored = [part[3] for part in image.tile[:1]]
    names = [args[0] if isinstance(args, tuple) and args else args for args in stored]
    return any(depth in str(name) for name in names for depth in (';16', ';32'))
