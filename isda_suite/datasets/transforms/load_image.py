"""Load the image of a sample, with one clear error for everything that can be wrong with it."""

from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import check_size, fault_of_content, missing_image
from isda_suite.registry import TRANSFORMS

_MIN_SKIPS = 3
_MAX_SKIP_SHARE = 0.001


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image and compare its size with the annotation.

    Rotation tags (EXIF) are ignored, as COCO's annotations do.

    Args:
        bad_images: ``'stop'`` raises for a missing or broken image. ``'skip'`` (training only)
            lets the data set draw another sample, counts, and stops when more than 0.1 % of the
            images a worker saw were bad (three are always forgiven).
        **kwargs: Arguments of mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: if ``bad_images`` is neither word.
    """

    def __init__(self, bad_images: str = 'stop', **kwargs: Any) -> None:
        if bad_images not in ('stop', 'skip'):
            raise ValueError(f"bad_images must be 'stop' or 'skip', got {bad_images!r}")
        kwargs.setdefault('color_type', 'color_ignore_orientation')
        super().__init__(**kwargs)
        self.bad_images = bad_images
        self.num_seen = 0
        self.num_skipped = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add ``img``, ``img_shape`` and ``ori_shape``.

        Returns:
            The results, or ``None`` for a skipped image.

        Raises:
            DataError: if the image is missing, empty, cut off, no image or of another size than
                annotated.
        """
        self.num_seen += 1
        try:
            return self._load(results)
        except DataError as error:
            if self.bad_images == 'stop':
                raise
            self._skip(error)
            return None

    def _load(self, results: dict[str, Any]) -> dict[str, Any]:
        path = str(results['img_path'])
        try:
            loaded = super().transform(results)
        except FileNotFoundError as error:
            raise missing_image(path) from error
        except Exception as error:
            # OpenCV raises its own error class for zero bytes, mmcv asserts for the rest.
            raise DataError(f'{path}: {self._fault(path, error)}') from error
        if loaded is None:
            raise DataError(f'{path}: {self._fault(path, None)}')
        if 'height' in results and 'width' in results:
            check_size(path, loaded['ori_shape'], (results['height'], results['width']))
        return loaded

    def _fault(self, path: str, error: Exception | None) -> str:
        from mmengine import fileio

        try:
            return fault_of_content(fileio.get(path, backend_args=self.backend_args))
        except Exception:
            return f'it cannot be read ({error})'

    def _skip(self, error: DataError) -> None:
        self.num_skipped += 1
        if self.num_skipped > max(_MIN_SKIPS, _MAX_SKIP_SHARE * self.num_seen):
            raise DataError(
                f'{self.num_skipped} of {self.num_seen} images this worker read are bad, more '
                f'than 0.1 %; the last one: {error}'
            ) from error
        print_log(f'skipped, {self.num_skipped} so far: {error}', 'current', level=30)
