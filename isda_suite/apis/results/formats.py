"""Instances as other programs take them: COCO, GeoJSON, supervision."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.large_images.georeference import Georeference
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import encode_mask

from .base import Instances, Json
from .polygons import polygons_of

Array = NDArray[Any]
SUPERVISION = "pip install 'isda_suite[supervision]'"
#: COCO numbers its 80 categories from 1 to 90 and leaves these out.
_COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def choose_categories(classes: Sequence[str], labels: Array, given: Sequence[int] | None) -> Any:
    """Return the category of each label.

    Args:
        classes: Names of the model's classes.
        labels: (N,) int64, those that need one.
        given: Category of each class; ``None`` takes COCO's for its 80 classes, and else counts
            from 1.

    Raises:
        ConfigError: if a label has none.
    """
    if given is None:
        if _are_those_of_coco(classes):
            given = [number for number in range(1, 91) if number not in _COCO_GAPS]
        else:
            given = range(1, 1 + max(len(classes), int(labels.max(initial=-1)) + 1))
    if labels.size and int(labels.max()) >= len(given):
        raise ConfigError(
            f'category_ids has {len(given)} categories, but there is an instance of class '
            f'{int(labels.max())}: give one for each of the {len(classes)} classes'
        )
    return given


def _are_those_of_coco(classes: Sequence[str]) -> bool:
    if len(classes) != 80:
        return False
    from mmdet.datasets import CocoDataset

    return tuple(classes) == tuple(CocoDataset.METAINFO['classes'])


def coco_entries(
    instances: Instances,
    classes: Sequence[str],
    image_id: int | str,
    category_ids: Sequence[int] | None,
) -> list[Json]:
    """Return instances as entries of a COCO results file; see ``ImageResult.to_coco``."""
    categories = choose_categories(classes, instances.labels, category_ids)
    entries: list[Json] = []
    for index, label in enumerate(instances.labels.tolist()):
        left, top, right, bottom = instances.boxes[index].tolist()
        entry: Json = {
            'image_id': image_id,
            'category_id': int(categories[label]),
            'bbox': [left, top, right - left, bottom - top],
            'score': float(instances.scores[index]),
        }
        if instances.masks is not None:
            entry['segmentation'] = encode_mask(instances.masks[index])
        entries.append(entry)
    return entries


def coco_dataset(instances: Instances, classes: Sequence[str], image: Json) -> Json:
    """Return instances as a COCO data set of one image, which pycocotools loads.

    Args:
        instances: The instances.
        classes: Names of the classes.
        image: Entry of the image; its ``id`` is 1.
    """
    categories = choose_categories(classes, instances.labels, None)
    annotations = []
    entries = coco_entries(instances, classes, image['id'], categories)
    for number, entry in enumerate(entries, start=1):
        mask = None if instances.masks is None else instances.masks[number - 1]
        _, _, width, height = entry['bbox']
        area = width * height if mask is None else int(mask.sum())
        annotations.append({'id': number, **entry, 'area': area, 'iscrowd': 0})
    return {
        'images': [image],
        'categories': category_entries(classes, categories),
        'annotations': annotations,
    }


def category_entries(classes: Sequence[str], categories: Sequence[int]) -> list[Json]:
    """Return the categories of a COCO data set; a class without a name is called by its number."""
    names = [*classes, *(f'class {label}' for label in range(len(classes), len(categories)))]
    return [
        {'id': int(number), 'name': name} for number, name in zip(categories, names, strict=False)
    ]


def feature_collection(
    instances: Instances, name_of: Callable[[int], str], place: Georeference | None
) -> Json:
    """Return instances as GeoJSON; see ``ImageResult.to_geojson``."""
    features = []
    for index, label in enumerate(instances.labels.tolist()):
        if instances.masks is None:
            polygons = [[_box_ring(instances.boxes[index])]]
        else:
            polygons = polygons_of(instances.masks[index])
        properties = {
            'label': label,
            'class': name_of(label),
            'score': float(instances.scores[index]),
            **{key: values[index] for key, values in instances.extra.items()},
        }
        geometry = {
            'type': 'MultiPolygon',
            'coordinates': [[_ring(ring, place) for ring in polygon] for polygon in polygons],
        }
        features.append({'type': 'Feature', 'properties': properties, 'geometry': geometry})
    collection: Json = {'type': 'FeatureCollection', 'features': features}
    if place is not None:
        # GeoJSON of 2008; the one of 2016 (RFC 7946) knows longitude and latitude only.
        collection['crs'] = {'type': 'name', 'properties': {'name': place.crs_name}}
    return collection


def _box_ring(box: Array) -> Array:
    left, top, right, bottom = box.tolist()
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])


def _ring(ring: Array, place: Georeference | None) -> list[list[float]]:
    """Bring a ring to the map and let it run as GeoJSON wants: outer rings counter-clockwise."""
    if place is None:
        return ring.tolist()
    a, b, _, d, e, _ = place.transform
    points = place.to_map(ring)
    return (points if a * e - b * d > 0 else points[::-1]).tolist()


def detections_of(instances: Instances, name_of: Callable[[int], str]) -> Any:
    """Return instances as ``supervision.Detections``.

    Raises:
        ConfigError: if supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ConfigError(f'to_supervision needs the package supervision: {SUPERVISION}') from error
    track_ids = instances.extra.get('track_id')
    return Detections(
        xyxy=instances.boxes.astype(np.float32),
        mask=instances.masks,
        confidence=instances.scores.astype(np.float32),
        class_id=instances.labels.astype(int),
        tracker_id=None if track_ids is None else np.array(track_ids, int),
        data={'class_name': np.array([name_of(label) for label in instances.labels.tolist()])},
    )
