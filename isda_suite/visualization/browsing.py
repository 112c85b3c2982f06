"""Draw the samples a model gets to see: after augmentation, from the data set's own pipeline."""

from pathlib import Path
from typing import Any

import numpy as np

from .instances import draw_instances
from .pictures import contact_sheet, save_picture


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
    classes = dataset.metainfo.get('classes')
    written: list[Path] = []
    small: list[Any] = []
    for position in tqdm(range(count), 'drawing', unit='img', disable=not progress):
        index = position * total // count
        sample = dataset[index]
        data = sample['data_samples']
        image = sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
        name = Path(data.img_path).stem
        height, width = image.shape[:2]
        instances = data.gt_instances if 'gt_instances' in data else None
        caption = f'{name}: {width} x {height}, '
        caption += 'no annotations loaded' if instances is None else f'{len(instances)} objects'
        if instances is None:
            instances = _nothing()
        picture = draw_instances(np.ascontiguousarray(image), instances, classes, caption)
        written.append(save_picture(Path(output_dir) / f'{index:04d}_{name}.jpg', picture))
        if len(small) < 24:
            small.append(picture)
    sheet = save_picture(Path(output_dir) / 'contact_sheet.jpg', contact_sheet(small))
    return [*written, sheet]


def _nothing() -> Any:
    import torch
    from mmengine.structures import InstanceData

    return InstanceData(labels=torch.zeros(0, dtype=torch.long))
