"""Label images of semantic segmentation: decode one, check it, turn it into class ids."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .image_file import fault_of_content

Array = NDArray[Any]
Colour = tuple[int, int, int]
_WHITE = 255
_NO_COLOUR = 255


@dataclass(frozen=True)
class LabelRule:
    """What a label image may hold, and how it becomes the ids that training sees.

    Args:
        num_classes: Classes that training sees.
        ignore_index: Value of pixels without a class.
        label_map: Id in the file to id in training, where a config names other classes than the
            data set; ``None`` keeps the ids.
        reduce_zero_label: Whether 0 in the file means "no class" and all ids are one too high.
        colours: RGB colour of each id in raw masks; ``None`` if the files hold ids.
        unknown_id: Id of every other colour in a raw mask; ``None`` makes it an error.
        refuse_white: Whether a file of 0 and 255 alone is taken for a raw mask by mistake.

    Raises:
        DataError: if two ids have the same colour, or there are too many.
    """

    num_classes: int
    ignore_index: int = 255
    label_map: dict[int, int] | None = None
    reduce_zero_label: bool = False
    colours: tuple[Colour, ...] | None = None
    unknown_id: int | None = None
    refuse_white: bool = False

    def __post_init__(self) -> None:
        """Check the colours."""
        colours = self.colours or ()
        if len(set(colours)) < len(colours) or len(colours) >= _NO_COLOUR:
            raise DataError(
                'raw masks need a palette of different colours, one a class, at most '
                f'{_NO_COLOUR - 1}; found {len(colours)}, {len(set(colours))} of them different'
            )

    @property
    def is_grey(self) -> bool:
        """Whether raw masks may have one channel: every colour is a grey."""
        return all(len(set(colour)) == 1 for colour in self.colours or ())


def rule_of(dataset: Any) -> LabelRule | None:
    """Return the rule for the label images of a data set.

    Args:
        dataset: One of ours, or mmseg's own.

    Returns:
        The rule; ``None`` without label images or class names.
    """
    own = getattr(dataset, 'label_rule', None)
    classes = dataset.metainfo.get('classes')
    if own is not None or not classes or not hasattr(dataset, 'reduce_zero_label'):
        return own
    return LabelRule(
        num_classes=len(classes),
        ignore_index=dataset.ignore_index,
        label_map=dataset.label_map,
        reduce_zero_label=dataset.reduce_zero_label,
    )


def decode_label(content: bytes, path: str, raw: bool = False) -> Array:
    """Decode a label image as it is stored: rotation tags (EXIF) are ignored, as for images.

    Args:
        content: The file's bytes.
        path: The file, for messages.
        raw: Whether colours are meant, not ids: a colour table is applied.

    Returns:
        (H, W) or (H, W, channels), in the file's own precision.

    Raises:
        DataError: if the content is no whole image.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            plain = image.convert('L' if image.mode in ('1', 'L') else 'RGB') if raw else image
            label = np.array(plain)  # a copy: Pillow's own pixels cannot be written
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error} (Pillow's limit, PIL.Image.MAX_IMAGE_PIXELS)") from error
    # Each of Pillow's decoders raises errors of its own for broken files.
    except Exception as error:
        raise DataError(f'{path}: {fault_of_content(content)}') from error
    return label.astype(np.uint8) if label.dtype == bool else label


def check_label_size(
    path: str, label_hw: Sequence[int], img_path: str, image_hw: Sequence[int]
) -> None:
    """Compare the size of a label with that of its image.

    Raises:
        DataError: if they differ.
    """
    if tuple(label_hw) != tuple(image_hw):
        raise DataError(
            f'{path}: the label is (h, w) = {tuple(label_hw)}, its image {img_path} is '
            f'{tuple(image_hw)}: they do not belong together, or one of them was resized'
        )


def check_one_channel(path: str, channels: int) -> None:
    """Refuse colours where class ids are expected.

    Raises:
        DataError: if there are several channels.
    """
    if channels > 1:
        raise DataError(
            f'{path}: expected one channel of class ids, found {channels} channels. If this is a '
            'mask that shows classes as colours, read it with raw_masks=True of '
            'isda_suite.SemanticDataset (or DeepGlobeDataset, InriaAerialDataset)'
        )


def class_ids(label: Array, path: str, rule: LabelRule) -> tuple[Array, int]:
    """Turn a decoded label image into the ids that training sees.

    Args:
        label: What :func:`decode_label` gives.
        path: The file, for messages.
        rule: What the file may hold.

    Returns:
        (H, W) uint8 ids, each below ``num_classes`` or ``ignore_index``; and the number of pixels
        whose colour is not in the table.

    Raises:
        DataError: if the file has several channels where ids are expected, or values or colours
            outside the classes.
    """
    if rule.colours is None:
        ids, unknown = _checked_ids(label, path, rule), 0
    else:
        ids, unknown = _ids_of_colours(label, path, rule)
    return _as_trained(ids, rule), unknown


def present_values(label: Array) -> Array:
    """Return the values of a one-channel image in increasing order."""
    if label.dtype != np.uint8:
        return np.unique(label)
    import cv2

    # np.unique sorts and np.bincount makes 8 bytes a pixel.
    histogram = cv2.calcHist([np.ascontiguousarray(label)], [0], None, [256], [0, 256])
    return np.flatnonzero(histogram)


def _checked_ids(label: Array, path: str, rule: LabelRule) -> Array:
    check_one_channel(path, label.shape[2] if label.ndim > 2 else 1)
    if label.dtype == np.uint8 and label.max(initial=0) <= _largest_id(rule):
        return label
    values = present_values(label)
    expected = f'0..{_largest_id(rule)} or {rule.ignore_index} (ignored)'
    outside = [value for value in values.tolist() if not _is_allowed(value, rule)]
    if outside:
        shown = ', '.join(map(str, outside[:8])) + (', …' if len(outside) > 8 else '')
        raise DataError(f'{path}: {label.dtype} label with values {shown}; expected {expected}')
    if rule.refuse_white and _WHITE in values and set(values.tolist()) <= {0, _WHITE}:
        raise DataError(
            f'{path}: holds only 0 and 255, as official masks do, but is read as class ids, where '
            '255 is ignored: set raw_masks=True of the data set, or raw_masks=False if these '
            'pixels are to be ignored'
        )
    return label.astype(np.uint8, copy=False)


def _largest_id(rule: LabelRule) -> int:
    known = len(rule.label_map) if rule.label_map else rule.num_classes
    return known - 1 + int(rule.reduce_zero_label)


def _is_allowed(value: float, rule: LabelRule) -> bool:
    inside = value == rule.ignore_index or 0 <= value <= _largest_id(rule)
    return inside and float(value).is_integer()


def _ids_of_colours(label: Array, path: str, rule: LabelRule) -> tuple[Array, int]:
    """Return the ids of a raw mask by exact match, and how many pixels match no colour."""
    import cv2

    colours = rule.colours or ()
    if label.ndim == 2 and not rule.is_grey:
        raise DataError(
            f'{path}: raw_masks=True expects RGB colours, this mask has one channel; if it holds '
            'class ids, leave raw_masks out'
        )
    # Bit by bit: assigning through a mask would take several times as long.
    ids = np.zeros(label.shape[:2], np.uint8)
    for index, colour in enumerate(colours):
        exact = colour if label.ndim == 3 else colour[:1]
        ids |= cv2.inRange(label, exact, exact) & np.uint8(index + 1)
    ids -= 1  # what was 0, no colour at all, wraps around
    strange = ids == _NO_COLOUR
    unknown = int(np.count_nonzero(strange))
    if not unknown:
        return ids, 0
    if rule.unknown_id is None:
        first = tuple(np.argwhere(strange)[0].tolist())
        raise DataError(
            f'{path}: {unknown} pixels have a colour of no class, the first one '
            f'{label[first].tolist()} at (y, x) = {first}; expected '
            f'{", ".join(map(str, colours))}'
        )
    ids[strange] = rule.unknown_id
    return ids, unknown


def _as_trained(ids: Array, rule: LabelRule) -> Array:
    """Apply ``reduce_zero_label`` and ``label_map``; ``ignore_index`` stays what it is."""
    if not rule.reduce_zero_label and rule.label_map is None:
        return ids
    table: Array = np.arange(256, dtype=np.uint8)
    if rule.reduce_zero_label:
        table = np.concatenate([[rule.ignore_index], table[:-1]]).astype(np.uint8)
    if rule.label_map is not None:
        reduced = table.copy()
        for old, new in rule.label_map.items():
            table[reduced == old] = new
    if 0 <= rule.ignore_index < table.size:
        table[rule.ignore_index] = rule.ignore_index
    return table[ids]
