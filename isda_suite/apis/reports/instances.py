"""What a report keeps of tested images with instances, and the sections it makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from isda_suite.datasets.annotation_file import read_annotation_file
from isda_suite.metrics.coco_detections import record_of
from isda_suite.metrics.detection_matching import Judged, best_of_each_class, judge_detections

from .parts import (
    Extremes,
    Ranked,
    Section,
    analysis_of,
    detection_sections,
    merged_extremes,
    pictures_section,
)

Array = NDArray[Any]
Json = dict[str, Any]
#: Images are drawn no larger than this.
_MAX_SIDE = 1280
#: COCO looks at so many detections of an image and class, LVIS at so many of an image.
MAX_DETECTIONS, _MAX_LVIS = 100, 300
_MEANING = (
    'By panoptic quality: the IoUs of what is right, over what is right and half of what is wrong '
    'or missed, of detections from score {:g} on. Left: annotations, right: predictions.'
)


class Instances(NamedTuple):
    """Instances of an image, found or annotated.

    Attributes:
        labels: (N,).
        regions: N run-length codes, or (N, 4) boxes as (x, y, w, h).
        scores: (N,); ones for annotations.
        ignored: (N,) bool, regions in which nothing counts.
    """

    labels: Array
    regions: Any
    scores: Array
    ignored: Array

    def chosen(self, places: Array) -> 'Instances':
        """Return some of them."""
        regions = self.regions
        some = [regions[i] for i in places] if isinstance(regions, list) else regions[places]
        return Instances(self.labels[places], some, self.scores[places], self.ignored[places])


class ShownImage(NamedTuple):
    """What is needed to draw an image later."""

    name: str
    path: str
    size_hw: tuple[int, int]
    found: Instances
    annotated: Instances


def annotated_instances(
    instances: Sequence[Json], size_hw: tuple[int, int], kind: str
) -> Instances:
    """Return what a data set's record says of an image.

    Args:
        instances: ``bbox`` (xyxy), ``bbox_label``, ``ignore_flag`` and ``mask`` (polygons, RLE or
            nothing) of each.
        size_hw: Of the image.
        kind: ``'segm'`` or ``'bbox'``. What has no mask becomes an ignored region of its box.
    """
    ignored = np.array([bool(one.get('ignore_flag')) for one in instances], dtype=bool)
    labels = np.array([int(one['bbox_label']) for one in instances], dtype=np.int64)
    boxes = np.array([one['bbox'] for one in instances], dtype=float).reshape(-1, 4)
    regions: Any = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    if kind == 'segm':
        codes = [_code_of(one.get('mask'), size_hw) for one in instances]
        ignored |= np.array([code is None for code in codes], dtype=bool)
        regions = [
            _code_of_box(box, size_hw) if code is None else code
            for code, box in zip(codes, boxes, strict=True)
        ]
    return Instances(labels, regions, np.ones(len(labels)), ignored)


def _code_of(mask: Any, size_hw: tuple[int, int]) -> Json | None:
    from pycocotools import mask as coco_mask

    if isinstance(mask, dict):
        runs = isinstance(mask['counts'], list)
        return coco_mask.frPyObjects(mask, *size_hw) if runs else mask
    polygons = [one for one in mask or () if len(one) >= 6 and len(one) % 2 == 0]
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size_hw)) if polygons else None


def _code_of_box(box: Array, size_hw: tuple[int, int]) -> Json:
    from pycocotools import mask as coco_mask

    left, top, right, bottom = (float(side) for side in box)
    corners = [[left, top, right, top, right, bottom, left, bottom]]
    return coco_mask.merge(coco_mask.frPyObjects(corners, *size_hw))


def found_instances(record: Json, kind: str) -> Instances:
    """Return detections of :func:`~isda_suite.metrics.coco_detections.record_of`."""
    labels = np.asarray(record['labels'], dtype=np.int64)
    scores = np.asarray(record['scores'], dtype=float)
    if kind == 'segm':
        scores = np.asarray(record.get('mask_scores', scores), dtype=float)
        regions: Any = list(record['masks'])
    else:
        boxes = np.asarray(record['bboxes'], dtype=float).reshape(-1, 4)
        regions = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    return Instances(labels, regions, scores, np.zeros(len(labels), dtype=bool))


def intersections_over_unions(found: Instances, annotated: Instances) -> Array:
    """Return (D, G) IoUs; with ignored regions the share of the detection inside."""
    from pycocotools import mask as coco_mask

    shape = len(found.labels), len(annotated.labels)
    if 0 in shape:
        return np.zeros(shape)
    ious = coco_mask.iou(found.regions, annotated.regions, annotated.ignored.tolist())
    return np.asarray(ious).reshape(shape).clip(min=0)  # -1: masks of another size


class AnnotatedImages:
    """The annotations of a data set by image id, and what LVIS says of what is not annotated.

    Args:
        dataset: A data set of mmengine with ``instances`` in its records.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._places: dict[Any, int] = {}
        for place in range(len(dataset)):
            self._places[dataset.get_data_info(place).get('img_id')] = place
        self._partly: dict[Any, tuple[set[int], set[int]]] = {}
        stock = any(c.__name__ == 'LVISV05Dataset' for c in type(dataset).__mro__)
        self.is_federated = stock or getattr(dataset, 'is_federated', False)
        if self.is_federated:
            self._partly = _labels_of_lvis(dataset)

    def of(self, img_id: Any) -> list[Json] | None:
        """Return the annotated instances of an image; ``None`` if the data set knows none."""
        place = self._places.get(img_id)
        info = None if place is None else self._dataset.get_data_info(place)
        return None if info is None or 'instances' not in info else info['instances']

    def absent_and_partial(self, img_id: Any) -> tuple[set[int], set[int]]:
        """Return the labels known to be absent, and those that are not annotated exhaustively."""
        return self._partly.get(img_id, (set(), set()))


def _labels_of_lvis(dataset: Any) -> dict[Any, tuple[set[int], set[int]]]:
    keep_nothing = {'annotations': lambda annotation: None}
    content = read_annotation_file(dataset.ann_file, 'LVIS', ('images',), keep_nothing)
    labels = dataset.cat2label
    return {
        image['id']: (
            {labels[one] for one in image.get('neg_category_ids', ()) if one in labels},
            {labels[one] for one in image.get('not_exhaustive_category_ids', ()) if one in labels},
        )
        for image in content['images']
    }


class InstanceCollector:
    """Judge images one by one and keep little of each.

    Args:
        annotations: Of the tested data.
        classes: Names of the classes.
        num_shown: How many of the best images to keep for drawing, and of the worst.
        score_thr: Detections from here on are shown and count as confusions.
    """

    def __init__(
        self, annotations: AnnotatedImages, classes: Sequence[str], num_shown: int, score_thr: float
    ) -> None:
        self._annotations = annotations
        self.classes = list(classes)
        self.num_shown = num_shown
        self.score_thr = score_thr
        self.judged: dict[Any, Judged] = {}
        self._extremes: Extremes[ShownImage] = Extremes(num_shown)

    def add(self, sample: Mapping[str, Any], record: Json | None = None) -> None:
        """Judge a tested image.

        Args:
            sample: ``img_id``, ``img_path``, ``ori_shape`` and ``pred_instances``.
            record: The same in short, if a metric has made it already.
        """
        img_id = sample['img_id']
        instances = self._annotations.of(img_id)
        if instances is None or img_id in self.judged:
            return
        record = record_of(dict(sample)) if record is None else record
        kind = 'segm' if 'masks' in record else 'bbox'
        height, width = (int(side) for side in sample['ori_shape'][:2])
        annotated = annotated_instances(instances, (height, width), kind)
        found, lenient = self._that_count(found_instances(record, kind), annotated, img_id)
        judged = judge_detections(
            intersections_over_unions(found, annotated),
            found.scores,
            found.labels,
            annotated.labels,
            annotated.ignored,
            len(self.classes),
            self.score_thr,
            lenient,
        )
        self.judged[img_id] = judged

        def shown() -> ShownImage:
            path = str(sample.get('img_path') or '')
            above = found.chosen(np.flatnonzero(found.scores >= self.score_thr))
            drawn = annotated.chosen(np.flatnonzero(~annotated.ignored))
            return ShownImage(path or str(img_id), path, (height, width), above, drawn)

        self._extremes.offer(judged.quality, len(judged.matches.gt_labels), shown)

    def _that_count(
        self, found: Instances, annotated: Instances, img_id: Any
    ) -> tuple[Instances, set[int]]:
        """Return the detections that an evaluation looks at, best first, and lenient labels."""
        absent, partial = self._annotations.absent_and_partial(img_id)
        order = np.argsort(-found.scores, kind='stable')
        if self._annotations.is_federated:
            order = order[:_MAX_LVIS]
            known = [*absent, *annotated.labels.tolist()]
            return found.chosen(order[np.isin(found.labels[order], known)]), partial
        order = order[best_of_each_class(found.scores[order], found.labels[order], MAX_DETECTIONS)]
        return found.chosen(order), partial

    def payload(self) -> tuple[dict[Any, Judged], list[Ranked]]:
        """Return what the other ranks need."""
        return self.judged, self._extremes.taken()

    def judged_of(self, payloads: Sequence[Any]) -> list[Judged]:
        """Return what was judged on all ranks, each image once, in the order of ids."""
        judged: dict[Any, Judged] = {}
        for part, _ in payloads:
            judged |= part
        return [judged[key] for key in sorted(judged, key=_by_id)]

    def sections(self, payloads: Sequence[Any]) -> list[Section]:
        """Make the sections of all ranks' images."""
        judged = self.judged_of(payloads)
        analysis = analysis_of(judged, len(self.classes))
        found = merged_extremes(
            (kept for _, kept in payloads), self.num_shown, lambda item: (item.name, item.path)
        )
        return [
            *detection_sections(judged, analysis, self.classes, self.score_thr, 'images'),
            *pictures_section(found, self._draw, _MEANING.format(self.score_thr), 'images'),
        ]

    def _draw(self, item: ShownImage) -> Array:
        from isda_suite.datasets.image_file import read_as_predicted
        from isda_suite.visualization.instances import draw_side_by_side

        image = np.ascontiguousarray(read_as_predicted(item.path, item.size_hw)[..., ::-1])
        scale = min(1.0, _MAX_SIDE / max(image.shape[:2]))  # of satellite images, for instance
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in image.shape[:2])
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        size_hw = image.shape[0], image.shape[1]
        annotated, found = (_as_data(one, scale, size_hw) for one in (item.annotated, item.found))
        found.scores = torch.as_tensor(item.found.scores)
        return draw_side_by_side(image, annotated, found, self.classes, self.score_thr)


def _as_data(instances: Instances, scale: float, size_hw: tuple[int, int]) -> Any:
    """Return instances for drawing, at another scale."""
    from mmengine.structures import InstanceData
    from pycocotools import mask as coco_mask

    data = InstanceData(labels=torch.as_tensor(instances.labels))
    if not isinstance(instances.regions, list):
        boxes = torch.as_tensor(instances.regions) * scale
        data.bboxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    elif instances.regions:
        masks = []
        for code in instances.regions:  # one at a time: large masks need not be there at once
            mask = coco_mask.decode(code)
            if scale < 1:
                mask = cv2.resize(mask, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
            masks.append(mask.astype(bool))
        data.masks = np.stack(masks)
    return data


def _by_id(img_id: Any) -> tuple[str, Any]:
    return type(img_id).__name__, img_id
