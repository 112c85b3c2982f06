"""Load the image of a sample, with one clear error for everything that can be wrong with it."""

import io
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from numpy.typing import NDArray

from isda_suite.datasets.counted_warning import CountedWarning
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import check_size, fault_of_content, missing_image
from isda_suite.datasets.image_header import read_header
from isda_suite.registry import TRANSFORMS

_JPEG = b'\xff\xd8'


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image and compare its size with the annotation.

    Rotation tags (EXIF) are ignored, as COCO's annotations do. An image that loses something when
    it is read as 8-bit colour (16 bits, transparency) gives a counted warning.

    Args:
        to_float32: Whether to give float32 instead of uint8.
        color_type: How mmcv decodes; the default is 8-bit BGR.
        imdecode_backend: What mmcv decodes with.
        backend_args: Arguments of mmengine's file client.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color_ignore_orientation',
        imdecode_backend: str = 'cv2',
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(to_float32, color_type, imdecode_backend, backend_args=backend_args)
        self._losses = CountedWarning()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, ``img_shape`` and ``ori_shape``.

        Returns:
            The results.

        Raises:
            DataError: if the image is missing, empty, cut off, no image or of another size than
                annotated.
        """
        path = str(results['img_path'])
        content = read_file(path, self.backend_args)
        image = self._decode(content, path)
        if 'height' in results and 'width' in results:
            check_size(path, image.shape[:2], (results['height'], results['width']))
        self._note_losses(content, path)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _decode(self, content: bytes, path: str) -> NDArray[Any]:
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        # OpenCV raises its own error class for zero bytes, the other backends have theirs.
        except Exception as error:
            raise DataError(f'{path}: {fault_of_content(content, error)}') from error
        if image is None:
            raise DataError(f'{path}: {fault_of_content(content)}')
        return np.asarray(image)

    def _note_losses(self, content: bytes, path: str) -> None:
        if content.startswith(_JPEG) or self.color_type == 'unchanged':
            return
        header = read_header(io.BytesIO(content))
        for loss in header.losses() if header is not None else ():
            self._losses.note(f'{path}: image with {loss}')


def read_file(path: str, backend_args: dict[str, Any] | None) -> bytes:
    """Read a file from where a configuration keeps its data.

    Args:
        path: The file.
        backend_args: Arguments of mmengine's file client; ``None`` goes by the path.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return bytes(fileio.get(path, backend_args=backend_args))
    except FileNotFoundError as error:
        raise missing_image(path) from error
    except OSError as error:
        raise DataError(f'{path}: it cannot be read ({error})') from error
