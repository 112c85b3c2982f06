"""One way to use every model: ``Segmenter('isda_r50_3x_coco', 'isda.pth')('photos/*.jpg')``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from torch import nn

from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings
from isda_suite.apis.results import ImageResult, VideoResult
from isda_suite.apis.results.samples import ResultMaker
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError

from .image_predictor import ImagePredictor, each
from .inputs import Expanded, InputReader, VideoInput
from .model_choice import load_choice, task_of
from .video import VideoPrediction, choose_clips, predict_video

if TYPE_CHECKING:
    from .segment import Segmented

AnyResult = ImageResult | VideoResult
_BAD_IMAGES = ('stop', 'skip')


class Segmenter:
    """A model that takes what people have and gives results they can use.

    Inputs are a path, a folder, a pattern with ``*``, an address (``https://…``, ``http://…``,
    ``file://…``), a BGR array (H, W, 3) uint8, a PIL image, a video (file, camera, array of
    frames), a GeoTIFF, or an iterable of these, which may be a generator.

    * A model of images takes a video frame by frame: a result for each frame. A model of videos
      refuses a single picture, and takes a folder or a list of pictures as the frames of one video.
    * Semantic models take a GeoTIFF in windows, and in tiles where memory asks for it (see
      :class:`.large_images.tiled_segmenter.TiledSegmenter`); so they take every picture if
      ``tiles`` is given. Any other picture goes through the test pipeline of the configuration.
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
        score_thr: Instances below this score (0..1) are dropped, and tracks that reach it in no
            frame.
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
        FileNotFoundError: if there is no such checkpoint.
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
        self._maker = ResultMaker.of(self.model, self.task, score_thr)
        is_semantic = self.task == 'semantic'
        self._images = ImagePredictor(self.model, self._maker, batch_size, is_semantic, tiles)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._maker.classes

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def __call__(self, inputs: Any, *, progress: bool = False, bad_images: str = 'stop') -> Any:
        """Predict inputs and hold all results; :meth:`stream` holds one batch.

        Args:
            inputs: See the class.
            progress: Show a bar.
            bad_images: See :meth:`stream`.

        Returns:
            One result for one image, or for one video if the model takes videos; else a list, also
            of one: for a folder, a pattern, an iterable, and the frames of a video.

        Raises:
            DataError: if an input is missing, unreadable, or none.
        """
        expanded = self._expand(inputs, bad_images)
        results = list(self._predict(expanded, progress, bad_images == 'skip'))
        return results[0] if expanded.is_one and results else results

    def stream(
        self, inputs: Any, progress: bool = False, bad_images: str = 'stop'
    ) -> Iterator[AnyResult]:
        """Predict inputs one batch at a time, in their order.

        Args:
            inputs: See the class. Files are looked for before the first prediction, unless they
                come from a generator; an address in a list is fetched when its turn comes.
            progress: Show a bar of the images, or of the frames of each video.
            bad_images: What happens at an image or video that cannot be read: ``'stop'`` raises,
                ``'skip'`` logs its name and the cause, and goes on.

        Raises:
            DataError: if an input is missing, unreadable, or none.
        """
        return self._predict(self._expand(inputs, bad_images), progress, bad_images == 'skip')

    def _expand(self, inputs: Any, bad_images: str) -> Expanded:
        if bad_images not in _BAD_IMAGES:
            raise ConfigError(f'bad_images must be one of {_BAD_IMAGES}, got {bad_images!r}')
        return self._reader().expand(inputs)

    def track(
        self,
        source: Any,
        *,
        every: int = 1,
        max_frames: int | None = None,
        **options: Any,
    ) -> VideoPrediction:
        """Predict a video frame by frame, without waiting for its end.

        Args:
            source: A video file, a folder or pattern of frames, a camera, an address, frames, or an
                open video.
            every: Take every n-th frame.
            max_frames: End after this many.
            **options: ``clip_len``, ``overlap``, ``keep_tracks`` and ``progress`` of
                :func:`.video.predict_video`.

        Returns:
            To be iterated once: the frames with the tracks in them; see there.

        Raises:
            ConfigError: if the model takes no videos.
            DataError: if the source is no video, or several.
        """
        choose_clips(self.model, options.get('clip_len'), options.get('overlap'))
        videos = list(self._reader().expand(source).items)
        if len(videos) != 1 or not isinstance(videos[0], VideoInput):
            raise DataError(f'{source} is {len(videos)} videos: track takes one after the other')
        video = videos[0].stored.open(every, max_frames)
        return predict_video(self.model, video, **options)

    def write_class_maps(
        self, images: Any, out_dir: str | Path, overlay: bool = False, progress: bool = True
    ) -> 'Iterator[Segmented]':
        """Segment files of any size into class maps, a few rows at a time.

        Args:
            images: Files, folders or patterns.
            out_dir: Folder for the class maps.
            overlay: Also draw the classes over the pictures.
            progress: Show a bar of the tiles of each picture.

        Yields:
            What was done with each file; see :func:`.segment.segment_files`.

        Raises:
            ConfigError: if the model is no segmentor.
            DataError: if a file is missing or cannot be taken.
        """
        from .segment import segment_files

        return segment_files(self.model, images, out_dir, self._settings, overlay, progress)

    @property
    def _settings(self) -> SegmentSettings:
        return self._tiles or SegmentSettings()

    def _reader(self) -> InputReader:
        in_windows = self.task == 'semantic' and self._tiles is not None
        return InputReader(self.task, self._settings.bands, in_windows)

    def _predict(self, expanded: Expanded, progress: bool, skip: bool) -> Iterator[AnyResult]:
        from tqdm import tqdm

        items: Iterator[Any] = expanded.items
        if self.task == 'video':
            yield from each(lambda: self._of_video(next(items), progress), skip)
            return
        with tqdm(total=expanded.total, unit='image', disable=not progress) as bar:
            for result in self._images.predict(items, skip):
                yield result
                bar.update()

    def _of_video(self, video: VideoInput, progress: bool) -> VideoResult:
        prediction = predict_video(self.model, video.stored.open(), progress=progress)
        scores: dict[tuple[int, int], float] = {}
        size_hw: Any = None
        for frame in prediction:
            size_hw = frame.image.shape[:2]
            pairs = zip(frame.ids, frame.scores, strict=True)
            scores |= {(track, frame.number): score for track, score in pairs}
        return self._maker.of_tracks(video, prediction, size_hw, scores)
