"""Make results of what the models of mmdet and mmseg return."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import as_array

from .georeference import Georeference
from .image_results import ImageResult, InstanceResult, SemanticResult
from .inputs import ImageInput
from .result import Instances, boxes_of

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

    def of_sample(
        self, image: ImageInput, sample: Any, place: Georeference | None = None
    ) -> ImageResult:
        """Make the result of an image.

        Args:
            image: The image.
            sample: Data sample of mmdet or mmseg, on the CPU.
            place: Of a GeoTIFF.

        Raises:
            ConfigError: if there are neither instances nor classes of pixels in the sample.
        """
        size_hw = tuple(int(side) for side in sample.ori_shape[:2])
        if 'pred_instances' in sample:
            found = _instances_of(sample.pred_instances, size_hw)
            return self._instances(image, size_hw, found[found.scores >= self.score_thr], place)
        if 'pred_sem_seg' not in sample:
            raise ConfigError(
                'the model predicts neither instances nor classes of pixels, but '
                f'{", ".join(sample.keys()) or "nothing"}: take a configuration for instance or '
                'semantic segmentation'
            )
        return self.of_class_map(image, as_array(sample.pred_sem_seg.data).squeeze(0), place)

    def of_class_map(
        self, image: ImageInput, class_map: Array, place: Georeference | None = None
    ) -> SemanticResult:
        """Make the result of an image from the class of every pixel, (H, W)."""
        kind = np.uint8 if len(self.palette) <= 255 else np.int32
        return SemanticResult(
            **self._common(image, class_map.shape, place),
            class_map=class_map.astype(kind),
            palette=self.palette,
        )

    def _instances(
        self, image: ImageInput, size_hw: Any, found: Instances, place: Georeference | None
    ) -> InstanceResult:
        order = np.argsort(-found.scores, kind='stable')
        return InstanceResult(**self._common(image, size_hw, place), found=found[order])

    def _common(self, image: ImageInput, size_hw: Any, place: Georeference | None) -> Any:
        return dict(
            name=image.name,
            source=image.source,
            image_size=size_hw,
            classes=self.classes,
            stored=image.stored,
            georeference=place,
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
