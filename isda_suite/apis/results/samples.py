"""Make results of what the models of mmdet and mmseg return."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.inputs import ImageInput, VideoInput
from isda_suite.apis.large_images.class_overlays import class_palette
from isda_suite.apis.video import VideoPrediction
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import as_array

from .base import Instances, boxes_of
from .images import ImageResult, InstanceResult, SemanticResult
from .stored_images import place_of
from .videos import Tracks, VideoResult

Array = NDArray[Any]


@dataclass(frozen=True)
class ResultMaker:
    """Make results of one model.

    Args:
        classes: Names of the classes.
        palette: RGB colour of each class of a segmentor.
        score_thr: Instances below this score are dropped.
    """

    classes: tuple[str, ...]
    palette: list[Sequence[int]]
    score_thr: float

    @classmethod
    def of(cls, model: nn.Module, task: str, score_thr: float) -> 'ResultMaker':
        """Read the classes of a model: those of its checkpoint, else of its configuration."""
        meta: Any = model.dataset_meta
        classes = tuple(meta.get('classes') or ())
        count = int(getattr(model, 'out_channels', 0)) if task == 'semantic' else 0
        count = max(2, count, len(classes)) if task == 'semantic' else len(classes)
        return cls(classes, class_palette(model, count), score_thr)

    def of_sample(self, image: ImageInput, sample: Any) -> ImageResult:
        """Make the result of an image.

        Args:
            image: The image.
            sample: Data sample of mmdet or mmseg, on the CPU.

        Raises:
            ConfigError: if there are neither instances nor classes of pixels in the sample.
        """
        height, width = (int(side) for side in sample.ori_shape[:2])
        size_hw = (height, width)
        if 'pred_instances' in sample:
            found = _instances_of(sample.pred_instances, size_hw)
            return self._instances(image, size_hw, found[found.scores >= self.score_thr])
        if 'pred_sem_seg' not in sample:
            raise ConfigError(
                'the model predicts neither instances nor classes of pixels, but '
                f'{", ".join(sample.keys()) or "nothing"}: take a configuration for instance or '
                'semantic segmentation'
            )
        return self.of_class_map(image, as_array(sample.pred_sem_seg.data).squeeze(0))

    def of_class_map(self, image: ImageInput, class_map: Array) -> SemanticResult:
        """Make the result of an image from the class of every pixel, (H, W)."""
        kind = np.uint8 if len(self.palette) <= 255 else np.int32
        return SemanticResult(
            **self._common(image, class_map.shape),
            class_map=class_map.astype(kind),
            palette=self.palette,
        )

    def of_tracks(
        self,
        video: VideoInput,
        prediction: VideoPrediction,
        size_hw: Any,
        frame_scores: dict[tuple[int, int], float],
    ) -> VideoResult:
        """Make the result of a video.

        Args:
            video: The video.
            prediction: Of it, run to its end.
            size_hw: Height and width of its frames.
            frame_scores: By the number of a track and that of a frame.
        """
        found = prediction.tracks
        labels, scores = as_array(found.labels).astype(np.int64), as_array(found.scores)
        ids = as_array(found.ids).astype(np.int64)
        by_frame = np.full((len(ids), prediction.num_frames), np.nan, np.float32)
        for row, track in enumerate(ids.tolist()):
            for number in range(prediction.num_frames):
                by_frame[row, number] = frame_scores.get((track, number), np.nan)
        tracks = Tracks(labels, scores.astype(np.float32), by_frame, ids, list(found.masks))
        # A track of the label -1 is in no frame.
        kept = np.flatnonzero(tracks.reach(self.score_thr) & (labels >= 0))
        return VideoResult(
            name=video.name,
            source=video.source,
            image_size=tuple(size_hw),
            classes=self.classes,
            tracks=tracks[kept[np.argsort(-scores[kept], kind='stable')]],
            num_frames=prediction.num_frames,
            fps=prediction.video.fps,
            stored=video.stored,
        )

    def _instances(self, image: ImageInput, size_hw: Any, found: Instances) -> InstanceResult:
        order = np.argsort(-found.scores, kind='stable')
        return InstanceResult(**self._common(image, size_hw), found=found[order])

    def _common(self, image: ImageInput, size_hw: Any) -> Any:
        return dict(
            name=image.name,
            source=image.source,
            image_size=size_hw,
            classes=self.classes,
            stored=image.stored,
            georeference=place_of(image.stored),
            frame=image.frame,
        )


def _instances_of(pred: Any, size_hw: tuple[int, int]) -> Instances:
    labels = as_array(pred.labels).astype(np.int64)
    masks = None
    if pred.get('masks') is not None:
        masks = as_array(pred.masks).astype(bool).reshape(len(labels), *size_hw)
    if pred.get('bboxes') is not None:
        boxes = as_array(getattr(pred.bboxes, 'tensor', pred.bboxes)).astype(np.float32)
    else:
        boxes = np.zeros((len(labels), 4), np.float32)
    if masks is not None:
        # SOLO and its like give zeros for boxes.
        missing = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes[missing] = boxes_of(masks[missing])
    return Instances(labels, as_array(pred.scores).astype(np.float32), boxes, masks)
