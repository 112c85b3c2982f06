"""Draw the samples a model gets to see: after augmentation, from the data set's own pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .class_maps import draw_class_map
from .instances import draw_instances
from .pictures import contact_sheet, save_picture

Array = NDArray[Any]


def draw_samples(
    dataset: Any, output_dir: str | Path, num: int | None = None, progress: bool = True
) -> list[Path]:
    """Draw samples of a data set with its pipeline applied, and a contact sheet.

    Args:
        dataset: Data set whose pipeline ends with ``PackDetInputs``, or with ``PackSegInputs``,
            or for videos with ``PackTrackInputs`` or ``PackClipInputs``; a clip becomes a sheet of
            its frames, in which an object keeps its colour.
        output_dir: Folder for ``NNNN_name.jpg`` and ``contact_sheet.jpg``.
        num: Number of samples, ``None`` for all; they are spread over the data set.
        progress: Whether to show a progress bar.

    Returns:
        The written files, the contact sheet last.

    Raises:
        ValueError: if the data set is empty or ``num`` is not positive.
    """
    from tqdm import tqdm

    total = len(dataset)
    count = total if num is None else min(num, total)
    if count < 1:
        raise ValueError(f'nothing to draw: {total} samples in the data set, num={num}')
    written: list[Path] = []
    small: list[Any] = []
    for position in tqdm(range(count), 'drawing', unit='img', disable=not progress):
        index = position * total // count
        sample = dataset[index]
        name, picture = _draw_sample(sample, dataset.metainfo)
        written.append(save_picture(Path(output_dir) / f'{index:04d}_{name}.jpg', picture))
        if len(small) < 24:
            small.append(picture)
    # A clip is a row of frames already: beside others they would be too small to see anything.
    is_row = all(picture.shape[1] > 3 * picture.shape[0] for picture in small)
    layout = dict(columns=1, cell_width=1440) if is_row else {}
    sheet = save_picture(Path(output_dir) / 'contact_sheet.jpg', contact_sheet(small, **layout))
    return [*written, sheet]


def _draw_sample(sample: Any, metainfo: dict[str, Any]) -> tuple[str, Array]:
    """Return the name of a sample and its picture, RGB."""
    data = sample['data_samples']
    images = np.ascontiguousarray(np.moveaxis(sample['inputs'].numpy(), -3, -1)[..., ::-1])
    if 'video_data_samples' not in data:
        name = Path(data.img_path).stem
        return name, _draw(images, data, metainfo, name)
    frames = data.video_data_samples
    first = frames[0]
    name = f'video_{first.get("video_id")}_from_{first.get("frame_id", 0)}'
    return name, contact_sheet(_draw_clip(images, frames, metainfo), columns=6, cell_width=320)


def _draw_clip(images: Array, frames: Any, metainfo: dict[str, Any]) -> list[Array]:
    """Draw the frames of a clip; every object has a colour of its own and is named by its id."""
    names = _names_of_tracks(frames, metainfo.get('classes') or ())
    places = {identity: place for place, identity in enumerate(names)}
    pictures = []
    for image, frame in zip(images, frames, strict=True):
        height, width = image.shape[:2]
        instances = frame.gt_instances
        caption = f'frame {frame.get("frame_id")}: {width} x {height}, '
        if 'instances_ids' not in instances:
            pictures.append(draw_instances(image, _labelled([]), (), f'{caption}no annotations'))
            continue
        if 'valid' in instances:
            instances = instances[instances.valid]
        shown = _labelled([places[int(one)] for one in instances.instances_ids])
        for key in ('bboxes', 'masks'):
            if key in instances:
                shown[key] = instances[key]
        caption += f'{len(instances)} of {len(names)} objects'
        pictures.append(draw_instances(image, shown, list(names.values()), caption))
    return pictures


def _names_of_tracks(frames: Any, classes: Any) -> dict[int, str]:
    """Return what the objects of a clip are called, by id."""
    labels: dict[int, int] = {}
    for frame in frames:
        found = frame.gt_instances
        if 'instances_ids' in found:
            labels |= zip(found.instances_ids.tolist(), found.labels.tolist(), strict=True)
    return {
        identity: f'{identity} {classes[label] if label < len(classes) else label}'
        for identity, label in sorted(labels.items())
    }


def _draw(image: Array, data: Any, metainfo: dict[str, Any], name: str) -> Array:
    """Draw what is annotated: a class map, instances, or nothing."""
    height, width = image.shape[:2]
    caption = f'{name}: {width} x {height}, '
    classes = metainfo.get('classes') or ()
    if 'gt_sem_seg' in data:
        labels = data.gt_sem_seg.data[0].numpy()
        outside = float((labels >= len(classes)).mean())
        caption += f'{outside:.1%} ignored'
        return draw_class_map(image, labels, classes, metainfo.get('palette'), caption)
    instances = data.gt_instances if 'gt_instances' in data else None
    caption += 'no annotations loaded' if instances is None else f'{len(instances)} objects'
    return draw_instances(
        image, _labelled([]) if instances is None else instances, classes, caption
    )


def _labelled(labels: list[int]) -> Any:
    import torch
    from mmengine.structures import InstanceData

    return InstanceData(labels=torch.tensor(labels, dtype=torch.long))
