"""One way to use every model: ``Segmenter('isda_r50_3x_coco', 'isda.pth')('photos/*.jpg')``."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from isda_suite.datasets.errors import DataError
from isda_suite.engine.config_file import apply_options, read_config
from isda_suite.engine.errors import ConfigError

from .class_overlays import class_palette
from .clip_pipeline import clip_length
from .inference import ImagePipeline, predict_prepared
from .inputs import ImageInput, Input, InputReader
from .model import load_model
from .results import Result
from .sample_results import ResultMaker
from .stored_images import ImageInFile
from .tiled_segmenter import SegmentSettings, TiledSegmenter

if TYPE_CHECKING:
    from .video import VideoPrediction

#: As weights: those that the model begins training with.
RANDOM = 'random'
_BAD_IMAGES = ('stop', 'skip')


class Segmenter:
    """A model that takes what people have and gives results they can use.

    Inputs are a path, a folder, a pattern with ``*``, an address (``https://…``, ``http://…``,
    ``file://…``), a BGR array (H, W, 3) uint8, a PIL image, a video (file, camera, array of frames),
    a GeoTIFF, or an iterable of these, which may be a generator.

    * A model of images takes a video frame by frame: a result for each frame. A model of videos
      refuses a single picture, and takes a folder or a list of pictures as the frames of one video.
    * Semantic models take GeoTIFF and JPEG 2000 in windows and in tiles where memory asks for it
      (see :class:`.tiled_segmenter.TiledSegmenter`); any other picture goes through the test
      pipeline of the configuration, unless ``tiles`` is given.
    * What is found in an image does not depend on the images beside it in a batch.

    Eight arguments, because they are what the command line of every tool has.

    Args:
        model: Name of a shipped configuration (``'isda_r50_3x_coco'``), path of one, a
            configuration, or a model that is built and filled already.
        weights: Path of a checkpoint, an address, the name of a model of the zoo; ``None`` takes
            the zoo's weights for this model, ``'random'`` those that training begins with, for
            trying things out.
        device: ``auto`` (the first GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: Images a pass.
        score_thr: Instances and tracks below this score (0..1) are dropped.
        cfg_options: Values to set in the configuration, by dotted key.
        tiles: How semantic models take pictures in tiles, and which bands of rasters are taken.
        trust: Read a checkpoint that may run code.

    Attributes:
        name: Of the configuration.
        task: ``'instance'``, ``'semantic'`` or ``'video'``.
        classes: Names of the classes: those of the checkpoint, else of the configuration.
        model: The network, in evaluation mode.

    Raises:
        ConfigError: if the model, the weights, the device or an option cannot be used.
        CheckpointError: if the checkpoint is damaged, unsafe, or of another model.
    """

    def __init__(
        self,
        model: str | Path | Config | nn.Module,
        weights: str | Path | None = None,
        *,
        device: str = 'auto',
        batch_size: int = 1,
        score_thr: float = 0.3,
        cfg_options: dict[str, Any] | None = None,
        tiles: SegmentSettings | None = None,
        trust: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f'batch_size must be at least 1, got {batch_size}')
        if not 0 <= score_thr <= 1:
            raise ConfigError(f'score_thr must lie between 0 and 1, got {score_thr}')
        self.model: Any = load_choice(model, weights, device, cfg_options, trust)
        cfg = self.model.cfg
        self.name = Path(cfg.filename).stem if cfg.filename else type(self.model).__name__
        self.task = task_of(self.model)
        self.batch_size = batch_size
        self.score_thr = score_thr
        self._tiles = tiles
        self._tiled: TiledSegmenter | None = None
        self._pipeline: ImagePipeline | None = None
        self._maker = ResultMaker(self._class_names(), self._class_colours(), score_thr)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._maker.classes

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def __call__(
        self, inputs: Any, *, progress: bool = False, bad_images: str = 'stop'
    ) -> Result | list[Result]:
        """Predict inputs, and hold all results; :meth:`stream` holds one batch.

        Args:
            inputs: See the class.
            progress: Show a bar.
            bad_images: See :meth:`stream`.

        Returns:
            One result for one image, or for one video if the model takes videos; else a list.

        Raises:
            DataError: if an input is missing, unreadable, or none.
        """
        expanded = self._reader().expand(inputs)
        results = list(self._predict(expanded.items, expanded.total, progress, bad_images))
        return results[0] if expanded.is_one and results else results

    def stream(
        self, inputs: Any, progress: bool = False, bad_images: str = 'stop'
    ) -> Iterator[Result]:
        """Predict inputs one batch at a time, in their order.

        Args:
            inputs: See the class. All but generators are looked at before the first prediction.
            progress: Show a bar.
            bad_images: What happens at an image that cannot be read: ``'stop'`` raises,
                ``'skip'`` logs a warning and goes on.

        Raises:
            DataError: if an input is missing, unreadable, or none.
        """
        expanded = self._reader().expand(inputs)
        return self._predict(expanded.items, expanded.total, progress, bad_images)

    def track(self, source: Any, **options: Any) -> 'VideoPrediction':
        """Predict a video frame by frame, without waiting for its end.

        Args:
            source: A video file, folder or pattern of frames, camera, address, frames, or an open
                video.
            **options: Of :func:`.video.predict_video`: ``clip_len``, ``overlap``, ``every``,
                ``max_frames``, ``keep_tracks``, ``progress``.

        Returns:
            To be iterated once: the frames with the tracks in them; see there.

        Raises:
            ConfigError: if the model takes no videos.
            DataError: if the source is no video.
        """
        from .video import choose_clips, predict_video

        choose_clips(self.model, options.get('clip_len'), options.get('overlap'))
        (item,) = self._reader().expand(source).items
        opened = item.stored.open(options.pop('every', 1), options.pop('max_frames', None))
        return predict_video(self.model, opened, **options)

    def _reader(self) -> InputReader:
        return InputReader(self.task, self._settings.bands)

    @property
    def _settings(self) -> SegmentSettings:
        return self._tiles or SegmentSettings()

    def _predict(
        self, items: Iterator[Input], total: int | None, progress: bool, bad_images: str
    ) -> Iterator[Result]:
        from tqdm import tqdm

        if self.task == 'video':
            for video in items:
                yield self._of_video(video, progress)
            return
        with tqdm(total=total, unit='image', disable=not progress) as bar:
            for result in self._of_images(items, bad_images):
                yield result
                bar.update()

    def _of_images(self, items: Iterable[Any], bad_images: str) -> Iterator[Result]:
        waiting: list[tuple[ImageInput, Any]] = []
        for image in items:
            try:
                prepared = self._prepare(image)
            except DataError as error:
                if bad_images == 'stop':
                    raise
                print_log(f'skipped: {error}', 'current', level=30)
                continue
            waiting.append((image, prepared))
            if len(waiting) == self.batch_size:
                yield from self._of_batch(waiting)
                waiting = []
        yield from self._of_batch(waiting)

    def _prepare(self, image: ImageInput) -> Any:
        if self._pipeline is None:
            self._pipeline = ImagePipeline(self.model.cfg)
        stored = image.stored
        source = stored.path if isinstance(stored, ImageInFile) else stored.read((0, 0))
        # The same number for all: random numbers of a model must not follow from the place.
        return self._pipeline(source, 0)

    def _of_batch(self, batch: Sequence[tuple[ImageInput, Any]]) -> Iterator[Result]:
        samples = predict_prepared(self.model, [prepared for _, prepared in batch])
        for (image, _), sample in zip(batch, samples, strict=True):
            yield self._maker.of_sample(image, sample)

    def _of_video(self, item: Any, progress: bool) -> Result:
        raise NotImplementedError

    def _class_names(self) -> tuple[str, ...]:
        return tuple(self.model.dataset_meta.get('classes') or ())

    def _class_colours(self) -> list[Sequence[int]]:
        count = getattr(self.model, 'out_channels', None) if self.task == 'semantic' else None
        return class_palette(self.model, max(2, count or len(self._class_names())))


def task_of(model: nn.Module) -> str:
    """Tell what a model predicts: ``'video'``, ``'semantic'`` or ``'instance'``."""
    if clip_length(model) is not None and hasattr(model, 'clip_linker'):
        return 'video'
    return 'semantic' if hasattr(model, 'encode_decode') else 'instance'


def load_choice(
    model: str | Path | Config | nn.Module,
    weights: str | Path | None,
    device: str,
    cfg_options: dict[str, Any] | None,
    trust: bool,
) -> nn.Module:
    """Load the model that a user names; see :class:`Segmenter`."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, Config):
        cfg = copy.deepcopy(model)
        apply_options(cfg, cfg_options)
    else:
        cfg = read_config(model, cfg_options)
    if weights is None:
        raise ConfigError(
            f'{model}: no weights: give weights, a checkpoint of yours, or weights={RANDOM!r} to try '
            'things out with an untrained model'
        )
    return load_model(cfg, None if weights == RANDOM else weights, device, trust)
