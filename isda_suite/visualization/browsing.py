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
        dataset: Data set whose pipeline ends with ``PackDetInputs``.
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
        data = sample['data_samples']
        image = np.ascontiguousarray(sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1])
        name = Path(data.img_path).stem
        picture = _draw(image, data, dataset.metainfo, name)
        written.append(save_picture(Path(output_dir) / f'{index:04d}_{name}.jpg', picture))
        if len(small) < 24:
            small.append(picture)
    sheet = save_picture(Path(output_dir) / 'contact_sheet.jpg', contact_sheet(small))
    return [*written, sheet]


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
    return draw_instances(image, _nothing() if instances is None else instances, classes, caption)


def _nothing() -> Any:
    import torch
    from mmengine.structures import InstanceData

    return InstanceData(labels=torch.zeros(0, dtype=torch.long))
