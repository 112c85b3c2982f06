"""Results of images: instances, or the class of every pixel."""

import functools
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.large_images.class_overlays import LONGEST_SIDE
from isda_suite.apis.large_images.class_rasters import write_class_image, write_class_raster
from isda_suite.apis.large_images.georeference import Georeference
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.datasets.errors import DataError

from .base import Instances, Json, Result, boxes_of
from .formats import coco_dataset, coco_entries, detections_of, feature_collection
from .stored_images import StoredImage, read_reduced

Array = NDArray[Any]


@dataclass(eq=False, kw_only=True, repr=False)
class ImageResult(Result):
    """What a model found in one image; for the arguments beside these see :class:`Result`.

    Args:
        stored: The image, to be read again.
        georeference: The place of a GeoTIFF.
        frame: Number of the frame if the image is one of a video.
    """

    stored: StoredImage
    georeference: Georeference | None = None
    frame: int | None = None

    @property
    @abstractmethod
    def instances(self) -> Instances:
        """What was found, in plain arrays."""

    @property
    def labels(self) -> Array:
        """Index of the class of each instance, (N,) int64."""
        return self.instances.labels

    @property
    def scores(self) -> Array:
        """Score of each instance, (N,) float32, 0..1."""
        return self.instances.scores

    @property
    def boxes(self) -> Array:
        """Box of each instance, (N, 4) float32, xyxy in pixels of the original image."""
        return self.instances.boxes

    @property
    def masks(self) -> Array:
        """Mask of each instance, (N, H, W) bool, of the size of the original image.

        Raises:
            DataError: if the model predicts boxes only.
        """
        if self.instances.masks is None:
            raise DataError(
                f'{self.name}: the model predicts boxes and no masks: use boxes, or take a model '
                'for instance segmentation'
            )
        return self.instances.masks

    @property
    def has_masks(self) -> bool:
        """Whether there are masks; models for detection have boxes only."""
        return self.instances.masks is not None

    def image(self) -> Array:
        """Read the image as the model saw it, (H, W, 3) uint8 RGB.

        Raises:
            DataError: if its file cannot be read any more.
        """
        return np.ascontiguousarray(self.stored.read(self.image_size)[..., ::-1])

    def to_coco(
        self, image_id: int | str = 1, category_ids: Sequence[int] | None = None
    ) -> list[Json]:
        """Return entries of a COCO results file.

        Args:
            image_id: Of the image in the annotations that they belong to.
            category_ids: Category of each class; ``None`` takes COCO's for its 80 classes, and
                else counts from 1.

        Returns:
            ``image_id``, ``category_id``, ``score``, ``bbox`` (x, y, width, height) and, where
            there are masks, ``segmentation`` (compressed RLE) of each instance; ready for JSON.

        Raises:
            ConfigError: if a label has no category.
        """
        return coco_entries(self.instances, self.classes, image_id, category_ids)

    def to_geojson(self) -> Json:
        """Return a feature for each instance, or for each class of a class map.

        Its geometry is a MultiPolygon with holes along the edges of the pixels, or the box where
        there are no masks; its properties are ``label``, ``class``, ``score``. Coordinates of a
        GeoTIFF are those of its map, whose reference system the member ``crs`` names; any other
        image has pixels: x to the right, y down, (0, 0) the corner of the first pixel.

        Returns:
            A FeatureCollection, ready for JSON.
        """
        return feature_collection(self.instances, self.class_name, self.georeference)

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with ``class_name`` in their data.

        Raises:
            ConfigError: if supervision is not installed.
        """
        return detections_of(self.instances, self.class_name)

    def to_dataset(self) -> Json:
        """Return what was found as a COCO data set of this image, with scores."""
        source = self.name if isinstance(self.source, np.ndarray) else str(self.source)
        height, width = self.image_size
        described: Json = {'id': 1, 'file_name': source, 'height': height, 'width': width}
        if self.frame is not None:
            described['frame'] = self.frame
        return coco_dataset(self.instances, self.classes, described)

    def _save_common(self, folder: str | Path) -> list[Path]:
        """Write ``NAME_overlay.jpg`` and ``NAME.json``."""
        from isda_suite.visualization.pictures import save_picture

        picture, facts = self._place(folder, '_overlay.jpg'), self._place(folder, '.json')
        content = self.to_dataset()
        save_picture(picture, self.plot())
        with write_atomically(facts, text=True) as file:
            json.dump(content, file)
        return [picture, facts]


@dataclass(eq=False, kw_only=True, repr=False)
class InstanceResult(ImageResult):
    """Instances in an image, the best first; for the other arguments see :class:`ImageResult`.

    Args:
        found: The instances.
    """

    found: Instances

    @property
    def instances(self) -> Instances:
        """What was found, in plain arrays."""
        return self.found

    def above(self, score_thr: float) -> 'InstanceResult':
        """Return only the instances with a score of at least ``score_thr`` (0..1)."""
        return replace(self, found=self.found[self.scores >= score_thr])

    def plot(self) -> Array:
        """Draw the instances over the image; see :meth:`Result.plot`."""
        with quiet_imports():
            import torch
            from mmengine.structures import InstanceData

            from isda_suite.visualization.instances import draw_instances

        shown = InstanceData(
            labels=torch.as_tensor(self.labels),
            scores=torch.as_tensor(self.scores),
            bboxes=torch.as_tensor(self.boxes),
        )
        if self.found.masks is not None:
            shown.masks = self.found.masks
        return draw_instances(self.image(), shown, self.classes or None)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``NAME_overlay.jpg`` and ``NAME.json``; see :meth:`Result.save`.

        The JSON file is a COCO data set of this image, with scores; other tools read it.
        """
        return self._save_common(folder)


@dataclass(eq=False, kw_only=True, repr=False)
class SemanticResult(ImageResult):
    """The class of every pixel; for the other arguments see :class:`ImageResult`.

    ``labels``, ``scores``, ``boxes`` and ``masks`` hold the classes that occur, in rising order:
    the pixels of each and the box around them. The score of all is 1, the model gives no other.

    Args:
        class_map: (H, W), uint8 if there are at most 255 classes; 255 is a pixel without data.
        palette: RGB colour of each class.
    """

    class_map: Array
    palette: list[Sequence[int]]

    @functools.cached_property
    def _by_class(self) -> Instances:
        labels = np.unique(self.class_map)
        labels = labels[labels < len(self.palette)].astype(np.int64)
        masks = self.class_map[None] == labels[:, None, None]
        return Instances(labels, np.ones(len(labels), np.float32), boxes_of(masks), masks)

    @property
    def instances(self) -> Instances:
        """The classes that occur, in plain arrays."""
        return self._by_class

    @property
    def labels(self) -> Array:
        """The classes that occur, (N,) int64."""
        return self._by_class.labels

    def plot(self) -> Array:
        """Draw the classes over the image, with a legend; see :meth:`Result.plot`.

        Of an image with a side of more than 2048 pixels every n-th pixel is drawn.
        """
        with quiet_imports():
            from isda_suite.visualization.class_maps import draw_class_map

        names = [self.class_name(label) for label in range(len(self.palette))]
        factor = max(1, -(-max(self.image_size) // LONGEST_SIDE))
        image = read_reduced(self.stored, self.image_size, factor)
        drawn = np.ascontiguousarray(image[..., ::-1]), self.class_map[::factor, ::factor]
        return draw_class_map(*drawn, names, self.palette)

    def save(self, folder: str | Path) -> list[Path]:
        """Write picture, masks and class map; see :meth:`Result.save`.

        ``NAME_overlay.jpg``, ``NAME.json`` (a COCO data set of this image, a mask for each class),
        and the class map: ``NAME.png``, grey, its values the classes, or of a GeoTIFF ``NAME.tif``
        with the same place and the colours of the classes.
        """
        if self.class_map.dtype != np.uint8:
            raise DataError(f'{self.name}: class maps of bytes hold at most 255 classes')
        place = self._place(folder, '.png' if self.georeference is None else '.tif')
        written = self._save_common(folder)
        if self.georeference is None:
            write_class_image(place, [self.class_map], self.image_size)
        else:
            profile = self.georeference.profile
            write_class_raster(place, [self.class_map], self.image_size, self.palette, profile)
        return [*written, place]
