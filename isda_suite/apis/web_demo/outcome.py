"""What was found, kept small for as long as the visitor plays with it, and drawn again and again.

Masks of a hundred instances in a photograph of 12 megapixels are 1.2 GB; as run lengths they are
a few hundred kilobytes. A page holds the latter.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.large_images.class_overlays import LONGEST_SIDE
from isda_suite.apis.results import InstanceResult, Result, SemanticResult, VideoResult
from isda_suite.apis.results.stored_images import read_reduced
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.metrics.mask_code import encode_mask

Array = NDArray[Any]


@dataclass(frozen=True)
class Look:
    """How a result is shown.

    Args:
        score_thr: Instances and tracks below this score are left out, 0..1.
        opacity: Of the masks, 0..1.
        boxes: Whether boxes are drawn.
        labels: Whether classes and scores are written.
    """

    score_thr: float = 0.3
    opacity: float = 0.5
    boxes: bool = False
    labels: bool = True

    @property
    def of_instances(self) -> dict[str, Any]:
        """Arguments of :func:`isda_suite.visualization.tubes.draw_tubes`."""
        return dict(alpha=self.opacity, with_boxes=self.boxes, with_labels=self.labels)


class Outcome:
    """A result of the network, to be shown at any threshold without running it again.

    Args:
        result: Of an image or a video, with all that may ever be shown.
        model: Name of the model.
    """

    def __init__(self, result: Result, model: str) -> None:
        # Where the file lies on this machine is nobody's business.
        result = replace(result, source=Path(str(result.source)).name)
        self.model = model
        self._codes: list[Any] | None = None
        if isinstance(result, InstanceResult) and result.has_masks:
            self._codes = [encode_mask(mask) for mask in result.masks]
            result = replace(result, found=replace(result.found, masks=None))
        self._result = result

    @property
    def is_video(self) -> bool:
        """Whether it is of a video."""
        return isinstance(self._result, VideoResult)

    def at(self, score_thr: float) -> Result:
        """Return the result with what scores at least ``score_thr`` (0..1)."""
        if isinstance(self._result, VideoResult):
            return self._result.above(score_thr)
        if not isinstance(self._result, InstanceResult):
            return replace(self._result)  # without the masks that the other one has computed
        kept = np.flatnonzero(self._result.scores >= score_thr)
        found = self._result.found[kept]
        if self._codes is not None:
            codes = [self._codes[place] for place in kept]
            found = replace(found, masks=_decoded(codes, self._result.image_size))
        return replace(self._result, found=found)


def _decoded(codes: list[Any], size_hw: tuple[int, int]) -> Array:
    from pycocotools import mask as coco_mask

    masks = np.zeros((len(codes), *size_hw), bool)
    for mask, code in zip(masks, codes, strict=True):
        mask[:] = coco_mask.decode(code)
    return masks


def draw(result: Result, look: Look) -> Array:
    """Draw a result; it has been taken at the threshold already.

    Returns:
        (H', W', 3) uint8 RGB picture; of a video a sheet of its frames.

    Raises:
        DataError: if the file cannot be read any more.
    """
    if isinstance(result, VideoResult):
        return result.plot(**look.of_instances)
    if isinstance(result, SemanticResult):
        return _draw_classes(result, look)
    if not isinstance(result, InstanceResult) or not result.has_masks:
        return result.plot()
    with quiet_imports():
        from isda_suite.visualization.tubes import TubeSlice, draw_tubes

    rows = zip(result.labels.tolist(), result.scores.tolist(), result.masks, strict=True)
    slices = [TubeSlice(None, *row) for row in rows]
    return draw_tubes(result.image(), slices, result.classes, **look.of_instances)


def _draw_classes(result: SemanticResult, look: Look) -> Array:
    with quiet_imports():
        from isda_suite.visualization.class_maps import draw_class_map

    factor = max(1, -(-max(result.image_size) // LONGEST_SIDE))
    image = read_reduced(result.stored, result.image_size, factor)
    return draw_class_map(
        np.ascontiguousarray(image[..., ::-1]),
        result.class_map[::factor, ::factor],
        [result.class_name(label) for label in range(len(result.palette))],
        result.palette,
        alpha=look.opacity,
        with_legend=look.labels,
    )


#: Columns of the table.
HEADERS = ('class', 'score', 'area (px)', 'area (%)')
PIXEL_HEADERS = ('class', 'area (px)', 'area (%)')
TRACK_HEADERS = ('class', 'best score', 'track', 'frames')


def table_of(result: Result) -> tuple[tuple[str, ...], list[list[Any]]]:
    """List what was found, the best first.

    Returns:
        Names of the columns, and the rows: class, score and area of each instance, class and area
        of each class of pixels, or class, best score in any frame (which the threshold looks at),
        number and count of frames of each track.
    """
    names = [result.class_name(int(label)) for label in result.labels]
    scores = [round(float(score), 3) for score in result.scores]
    if isinstance(result, VideoResult):
        best = np.nan_to_num(result.tracks.frame_scores).max(axis=1, initial=0.0)
        scores = [round(float(score), 3) for score in best]
        ids = result.tracks.ids.tolist()
        counts = [sum(code is not None for code in masks) for masks in result.masks]
        return TRACK_HEADERS, [list(row) for row in zip(names, scores, ids, counts, strict=True)]
    height, width = result.image_size
    areas = _areas(result)
    shares = [round(100 * area / (height * width), 2) for area in areas]
    if isinstance(result, SemanticResult):
        return PIXEL_HEADERS, [list(row) for row in zip(names, areas, shares, strict=True)]
    return HEADERS, [list(row) for row in zip(names, scores, areas, shares, strict=True)]


def _areas(result: Any) -> list[int]:
    if result.has_masks:
        return [int(np.count_nonzero(mask)) for mask in result.masks]
    sides = (result.boxes[:, 2:] - result.boxes[:, :2]).clip(0)
    return [round(float(area)) for area in sides.prod(axis=1)]


def sentence_of(result: Result, outcome: Outcome) -> str:
    """Say in a line what was found in what."""
    height, width = result.image_size
    count = len(result)
    if isinstance(result, VideoResult):
        found = f'{count} track{"" if count == 1 else "s"} in {result.num_frames} frames'
    elif isinstance(result, SemanticResult):
        found = f'{count} class{"" if count == 1 else "es"} of pixels'
    else:
        found = f'{count} instance{"" if count == 1 else "s"}'
    return f'{outcome.model}: {found} of {width} x {height} pixels'
