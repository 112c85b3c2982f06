"""What the header of an image file says, without decoding its pixels."""

from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Header:
    """Facts about an image.

    Args:
        size_hw: Height and width in pixels, as stored: rotation tags (EXIF) are ignored.
        channels: Channels of the file; an image with a colour table has one.
        deep: Whether a channel has more than 8 bits.
        transparent: Whether there is an alpha channel or a transparent colour.
    """

    size_hw: tuple[int, int]
    channels: int
    deep: bool
    transparent: bool

    def losses(self) -> list[str]:
        """Name what is lost when the image is read as 8-bit colour."""
        lost = []
        if self.deep:
            lost.append('more than 8 bits a channel: read as 8 bits')
        if self.transparent:
            lost.append('transparency: read without it')
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
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            width, height = image.size
            return Header(
                size_hw=(height, width),
                channels=len(image.getbands()),
                deep=_is_deep(image),
                transparent=image.has_transparency_data,
            )
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError):
        return None


def _is_deep(image: Any) -> bool:
    # Pillow's mode of a 16-bit colour image is that of an 8-bit one; how the pixels are stored
    # tells them apart: 'RGB;16B', 'I;16N', 'F;32F'.
    stored = [part[3] for part in image.tile[:1]]
    names = [args[0] if isinstance(args, tuple) and args else args for args in stored]
    return any(depth in str(name) for name in names for depth in (';16', ';32'))
