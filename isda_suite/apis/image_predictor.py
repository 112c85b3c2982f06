"""Predict images one batch at a time: through the test pipeline, or in tiles."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mmengine.logging import print_log
from torch import nn

from isda_suite.apis.large_images.pictures import ArrayPicture
from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings, TiledSegmenter
from isda_suite.apis.results import ImageResult
from isda_suite.apis.results.samples import ResultMaker
from isda_suite.apis.results.stored_images import ImageInFile, ImageInRaster
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import read_image

from .inference import ImagePipeline, predict_prepared
from .inputs import ImageInput
from .segment import class_map_of

T = TypeVar('T')


class ImagePredictor:
    """Make results of images.

    Args:
        model: From :func:`.model.load_model`.
        maker: Makes the results.
        batch_size: Images a pass.
        in_tiles: Whether rasters go in windows and tiles: those of a segmentor.
        tiles: How; ``None`` lets every other picture go through the test pipeline.
    """

    def __init__(
        self,
        model: nn.Module,
        maker: ResultMaker,
        batch_size: int,
        in_tiles: bool,
        tiles: SegmentSettings | None,
    ) -> None:
        self._model: Any = model
        self._maker = maker
        self._batch_size = batch_size
        self._in_tiles = in_tiles
        self._tiles = tiles
        self._tiled: TiledSegmenter | None = None
        self._pipeline: ImagePipeline | None = None

    def predict(self, images: Iterator[Any], skip: bool) -> Iterator[ImageResult]:
        """Yield the results of images in their order.

        Args:
            images: The images; one may be fetched or decoded when it is asked for.
            skip: Leave out those that cannot be read, with a warning.

        Raises:
            DataError: for the first one that cannot be read, unless they are skipped.
        """
        waiting: list[tuple[ImageInput, Any]] = []
        for pair in each(lambda: self._ready(next(images)), skip):
            waiting.append(pair)
            if len(waiting) == self._batch_size:
                yield from self._of_batch(waiting)
                waiting = []
        yield from self._of_batch(waiting)

    def _ready(self, image: ImageInput) -> tuple[ImageInput, Any]:
        """Return an image with what a pass takes, or with its result if it went in tiles."""
        is_raster = isinstance(image.stored, ImageInRaster)
        if self._in_tiles and (is_raster or self._tiles is not None):
            return image, self._of_tiles(image)
        if self._pipeline is None:
            self._pipeline = ImagePipeline(self._model.cfg)
        stored = image.stored
        source = stored.path if isinstance(stored, ImageInFile) else stored.read((0, 0))
        # The same number for all: random numbers of a model must not follow from the place.
        return image, self._pipeline(source, 0)

    def _of_batch(self, batch: Sequence[tuple[ImageInput, Any]]) -> Iterator[ImageResult]:
        prepared = [ready for _, ready in batch if not isinstance(ready, ImageResult)]
        samples = iter(predict_prepared(self._model, prepared))
        for image, ready in batch:
            if isinstance(ready, ImageResult):
                yield ready
            else:
                yield self._maker.of_sample(image, next(samples))

    def _of_tiles(self, image: ImageInput) -> ImageResult:
        if self._tiled is None:
            self._tiled = TiledSegmenter(self._model, self._tiles)
        stored = image.stored
        if isinstance(stored, ImageInRaster):
            with stored.opened() as raster:
                return self._maker.of_class_map(image, class_map_of(self._tiled, raster))
        if isinstance(stored, ImageInFile):
            pixels = read_image(str(stored.path))
        else:
            pixels = stored.read((0, 0))
        return self._maker.of_class_map(image, class_map_of(self._tiled, ArrayPicture(pixels)))


def each(produce: Callable[[], T], skip: bool) -> Iterator[T]:
    """Yield what a function gives until it raises ``StopIteration``.

    Args:
        produce: The function.
        skip: Go on behind a ``DataError``, with a warning.

    Raises:
        DataError: the first one, unless they are skipped.
    """
    while True:
        try:
            found = produce()
        except StopIteration:
            return
        except DataError as error:
            if not skip:
                raise
            print_log(f'skipped: {error}', 'current', level=logging.WARNING)
            continue
        yield found
