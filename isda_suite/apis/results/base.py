"""What a model found in one input: the part that all kinds of results share."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.engine.errors import ConfigError

Array = NDArray[Any]
Json = dict[str, Any]
Source = str | Path | Array
#: Longest side of the picture that a notebook shows.
_NOTEBOOK_SIDE = 1024


@dataclass(eq=False, kw_only=True, repr=False)
class Result(ABC):
    """What a model found in one input.

    Args:
        name: Of the files that :meth:`save` writes, without a suffix; unique among the results of
            one call.
        source: Path or address, or the BGR array.
        image_size: Height and width of the original image or video, in pixels.
        classes: Names of the labels; a label beyond them has no name.
    """

    name: str
    source: Source
    image_size: tuple[int, int]
    classes: tuple[str, ...]

    @property
    @abstractmethod
    def labels(self) -> Array:
        """Index of the class of each instance, (N,) int64."""

    @property
    @abstractmethod
    def scores(self) -> Array:
        """Score of each instance, (N,) float32, 0..1."""

    @abstractmethod
    def plot(self) -> Array:
        """Draw what was found.

        Returns:
            (H', W', 3) uint8 RGB picture; small images are enlarged by a whole number.

        Raises:
            DataError: if the image cannot be read any more.
        """

    @abstractmethod
    def save(self, folder: str | Path) -> list[Path]:
        """Write picture and masks into a folder, each file whole or not at all.

        Args:
            folder: Made if it is not there. Older files of the same names are replaced.

        Returns:
            The files.

        Raises:
            ConfigError: if a file would replace the source.
        """

    @abstractmethod
    def to_coco(
        self, image_id: int | str = 1, category_ids: Sequence[int] | None = None
    ) -> list[Json]:
        """Return what was found as entries of a results file.

        Args:
            image_id: Of the image or video in the annotations that they belong to.
            category_ids: Category of each class; ``None`` takes COCO's for its 80 classes, and
                else counts from 1.
        """

    @abstractmethod
    def to_geojson(self) -> Json:
        """Return what was found as a FeatureCollection of polygons with holes."""

    @abstractmethod
    def to_dataset(self) -> Json:
        """Return what was found as a data set of this one input, with scores.

        Returns:
            COCO's form for an image, YouTube-VIS's for a video; ready for JSON.

        Raises:
            ConfigError: if a label has no category.
        """

    @abstractmethod
    def to_supervision(self) -> Any:
        """Return what was found as ``supervision.Detections``.

        Raises:
            ConfigError: if supervision is not installed.
        """

    def __len__(self) -> int:
        """Return N, how many instances, classes or tracks there are."""
        return len(self.labels)

    def class_name(self, label: int) -> str:
        """Return the name of a label."""
        return self.classes[label] if 0 <= label < len(self.classes) else f'class {label}'

    def __repr__(self) -> str:
        """Say in a line what was found in what."""
        counts = Counter(self.class_name(int(label)) for label in self.labels)
        found = ', '.join(f'{count} {name}' for name, count in counts.most_common(5))
        more = '' if len(counts) <= 5 else f', … ({len(counts)} classes)'
        height, width = self.image_size
        return (
            f'<{type(self).__name__} {self.name!r} ({width} x {height}): '
            f'{found or "nothing found"}{more}>'
        )

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook shows."""
        import cv2

        picture = self.plot()
        factor = _NOTEBOOK_SIDE / max(picture.shape[:2])
        if factor < 1:
            size = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        _, content = cv2.imencode('.png', picture[..., ::-1])
        return content.tobytes()

    def _place(self, folder: str | Path, ending: str) -> Path:
        """Return the name of a file to write; refuse that of the source."""
        place = Path(folder).expanduser() / f'{self.name}{ending}'
        is_path = isinstance(self.source, str | Path)
        if is_path and Path(str(self.source)).expanduser().resolve() == place.resolve():
            raise ConfigError(f'{place} is the source, it would be replaced: give another folder')
        return place


@dataclass(frozen=True)
class Instances:
    """N instances of an image.

    Args:
        labels: (N,) int64.
        scores: (N,) float32.
        boxes: (N, 4) float32, xyxy.
        masks: (N, H, W) bool; ``None`` of a model without masks.
        extra: Further properties of each, such as the number of its track.
    """

    labels: Array
    scores: Array
    boxes: Array
    masks: Array | None
    extra: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)

    def __getitem__(self, kept: Array) -> 'Instances':
        """Return those that a (N,) bool array keeps, or an array of indices names."""
        masks = None if self.masks is None else self.masks[kept]
        places = np.arange(len(self))[kept].tolist()
        extra = {key: [values[place] for place in places] for key, values in self.extra.items()}
        return Instances(self.labels[kept], self.scores[kept], self.boxes[kept], masks, extra)


def boxes_of(masks: Array) -> Array:
    """Return the smallest boxes around masks, (N, 4) float32 xyxy; zeros around empty ones."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
