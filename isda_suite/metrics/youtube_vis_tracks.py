"""Tracks of video instance segmentation: what is annotated, what was found, how much they share."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Json = dict[str, Any]
_MAX_MASKS = 255
_FEW_PAIRS = 4
# Every fourth frame from each of these on: after two of them, pairs that do not touch are given up.
_PASSES = (0, 2, 1, 3)


@dataclass(frozen=True)
class Track:
    """One object through one video.

    Args:
        masks: A compressed RLE for each frame, ``None`` where there is no mask.
        areas: (frames,) pixels of each mask, 0 where there is none.
        mean_area: By which the track is small, medium or large.
        score: Of a result; 0 of an annotation.
        crowd: Whether an annotation stands for several objects.
    """

    masks: tuple[Json | None, ...]
    areas: Array
    mean_area: float
    score: float = 0.0
    crowd: bool = False


def annotated_track(annotation: Json, height: int, width: int) -> Track:
    """Make a track of an annotation of a YouTube-VIS file.

    Its size is the mean of the ``areas`` above 0 in the file; those of the masks if the file has
    none.

    Args:
        annotation: ``segmentations`` (RLE, compressed RLE, polygons or null for each frame),
            ``areas``, ``iscrowd``.
        height: Height of the video.
        width: Width of the video.
    """
    masks = _compressed(annotation['segmentations'], height, width)
    areas = _areas_of(masks)
    stated = annotation.get('areas')
    return Track(
        masks,
        areas,
        _mean_of_present(areas.tolist() if stated is None else stated),
        crowd=bool(annotation.get('iscrowd')),
    )


def found_track(result: Json, height: int, width: int) -> Track:
    """Make a track of an entry of a results file: ``segmentations`` and ``score``."""
    masks = _compressed(result['segmentations'], height, width)
    areas = _areas_of(masks)
    return Track(masks, areas, _mean_of_present(areas.tolist()), score=float(result['score']))


def _compressed(segmentations: Sequence[Any], height: int, width: int) -> tuple[Json | None, ...]:
    from pycocotools import mask as coco_mask

    masks: list[Json | None] = []
    for one in segmentations:
        if not one:
            masks.append(None)
        elif isinstance(one, list):
            masks.append(coco_mask.merge(coco_mask.frPyObjects(one, height, width)))
        elif isinstance(one['counts'], list):
            # numpy takes Python's whole numbers one by one, three times as slow as array does.
            runs = np.frombuffer(array('I', one['counts']), np.uint32)
            masks.append(coco_mask.frPyObjects({'size': one['size'], 'counts': runs}, *one['size']))
        else:
            masks.append(one)
    return tuple(masks)


def _areas_of(masks: Sequence[Json | None]) -> Array:
    from pycocotools import mask as coco_mask

    areas = np.zeros(len(masks), np.int64)
    present = [index for index, mask in enumerate(masks) if mask is not None]
    # With NumPy 2, pycocotools cannot count the pixels of more than 255 masks at once.
    for start in range(0, len(present), _MAX_MASKS):
        some = present[start : start + _MAX_MASKS]
        areas[some] = coco_mask.area([masks[index] for index in some])
    return areas


def _mean_of_present(areas: Iterable[float | None]) -> float:
    values = np.array([area or 0 for area in areas], dtype=float)
    present = values[values != 0]
    return float(present.mean()) if present.size else 0.0


def sequence_ious(
    found: Sequence[Track], annotated: Sequence[Track], at_least: float = 0.0
) -> Array:
    r"""Compute the IoU of whole tracks.

    .. math:: IoU_{dg} = \sum_t |d_t \cap g_t| \, / \, \sum_t |d_t \cup g_t|

    A missing mask is an empty one. Only the frames both have are counted; masks of different
    sizes share nothing and count nothing. Numbers of pixels are whole numbers, so the result is
    that of going through pairs and frames one by one, to the last bit.

    Args:
        found: D tracks of one video.
        annotated: G tracks of it; crowds are treated like the others.
        at_least: Pairs are given up, with an IoU of 0, once it is sure that they stay below this:
            by their areas alone, or by those and some of the frames.

    Returns:
        (D, G), 0 where both are empty.
    """
    shape = (len(found), len(annotated))
    if 0 in shape:
        return np.zeros(shape)
    ends = [np.array([len(one.masks) for one in tracks]) for tracks in (found, annotated)]
    shared = np.minimum(ends[0][:, None], ends[1][None])
    num_frames = int(shared.max())
    areas = _area_table(found, num_frames), _area_table(annotated, num_frames)
    # Pixels of both, in the frames both have.
    both: Array = np.zeros(shape, np.int64)
    for length in set(shared.ravel().tolist()):
        sums = np.add.outer(*(table[:, :length].sum(1) for table in areas))
        both = np.where(shared == length, sums, both)
    sizes = {tuple(mask['size']) for one in (*found, *annotated) for mask in one.masks if mask}
    if len(sizes) > 1:
        both -= _pixels_of_unlike_sizes(found, annotated, num_frames)
    inter = np.zeros(shape, np.int64)
    most = np.minimum(areas[0][:, None], areas[1][None])  # that two masks can share
    left = most.sum(-1)
    for start in _PASSES:
        frames = range(start, num_frames, len(_PASSES))
        reach = inter + left
        hopeful = reach + 1 >= at_least * (both - reach)  # a pixel for the rounding
        inter += _intersections(found, annotated, areas, frames, hopeful)
        left -= most[..., start :: len(_PASSES)].sum(-1)
    return np.divide(inter, both - inter, out=np.zeros(shape), where=hopeful & (both > inter))


def _area_table(tracks: Sequence[Track], num_frames: int) -> Array:
    """Return the pixels of each track in each frame, (tracks, frames)."""
    table = np.zeros((len(tracks), num_frames), np.int64)
    for row, track in zip(table, tracks, strict=True):
        row[: len(track.areas)] = track.areas[:num_frames]
    return table


def _intersections(
    found: Sequence[Track],
    annotated: Sequence[Track],
    areas: tuple[Array, Array],
    frames: range,
    wanted: Array,
) -> Array:
    """Return the pixels that wanted pairs share in some frames, (D, G).

    pycocotools gives i / u of all pairs of a frame in one call; with i + u known, i follows. It is
    below 2^32, so that rounding makes it exact. That call is slow to start: few pairs are quicker
    one by one.
    """
    from pycocotools import mask as coco_mask

    rows, columns = (table[:, frames.start :: frames.step].T for table in areas)
    ratios: Array = np.zeros((len(frames), *wanted.shape))
    pairs = (rows > 0)[:, :, None] & (columns > 0)[:, None] & wanted
    single, places = [], []
    for index in np.flatnonzero(pairs.any((1, 2))).tolist():
        frame = frames[index]
        some, others = pairs[index].nonzero()
        if len(some) <= _FEW_PAIRS:
            for row, column in zip(some.tolist(), others.tolist(), strict=True):
                masks = [found[row].masks[frame], annotated[column].masks[frame]]
                single.append(coco_mask.merge(masks, intersect=True))
                places.append((row, column))
            continue
        some, others = (pairs[index].any(axis).nonzero()[0] for axis in (1, 0))
        ratios[index, some[:, None], others] = coco_mask.iou(
            [found[row].masks[frame] for row in some],
            [annotated[column].masks[frame] for column in others],
            [0] * len(others),
        )
    ratios = ratios.clip(min=0)  # -1 says that the sizes differ
    sums = rows[:, :, None] + columns[:, None]
    shared: Array = np.rint(ratios * sums / (1 + ratios)).astype(np.int64).sum(0)
    if places:
        np.add.at(shared, tuple(np.transpose(places)), _areas_of(single))
    return shared


def _pixels_of_unlike_sizes(
    found: Sequence[Track], annotated: Sequence[Track], num_frames: int
) -> Array:
    """Return the pixels of both masks in the frames where their sizes differ, (D, G)."""
    pixels = np.zeros((len(found), len(annotated)), np.int64)
    for row, column in np.ndindex(pixels.shape):
        pair = found[row], annotated[column]
        for frame in range(min(num_frames, *(len(one.masks) for one in pair))):
            masks = [one.masks[frame] for one in pair]
            if all(masks) and len({tuple(mask['size']) for mask in masks if mask}) > 1:
                pixels[row, column] += sum(int(one.areas[frame]) for one in pair)
    return pixels
