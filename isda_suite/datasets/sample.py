"""Write a small synthetic data set, the same bytes for the same seed.

One scene generator (:mod:`isda_suite.datasets.scene`), one writer a format. Every image is drawn
from its own random stream, addressed by (seed, split, index), so changing the number of training
images changes none of the others.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .sample_folder import is_written, new_folder, progress_bar, write_image
from .scene import Scene, SceneStatistics
from .scene_rendering import Rendered, random_scene, render

#: Raise when the same arguments give other bytes than before.
SAMPLE_VERSION = 1
_SPLITS = ('train', 'val')
#: Files of a split, and whether there is one an image.
_FILES = {
    'coco': {'{split}/*.jpg': True, 'annotations/instances_{split}.json': False},
    'semantic': {'images/{split}/*.jpg': True, 'labels/{split}/*.png': True},
}


def scene_of(seed: int, split: str, index: int, stats: SceneStatistics | None = None) -> Scene:
    """Return scene ``index`` of a split; the same arguments give the same scene."""
    return random_scene(np.random.default_rng([seed, _SPLITS.index(split), index]), stats)


def write_sample_coco(
    root: str | Path,
    num_train: int = 240,
    num_val: int = 60,
    stats: SceneStatistics | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the sample in COCO format.

    ``root`` gets ``train/*.jpg``, ``val/*.jpg`` and ``annotations/instances_{train,val}.json``
    with RLE masks. It is written to a folder beside and renamed, so it is either whole or absent;
    when it is there already with the same arguments nothing is done.

    Args:
        root: Folder to make.
        num_train: Number of training images.
        num_val: Number of validation images.
        stats: What the scenes look like; ``None`` means the documented default.
        seed: Seed of all randomness.
        progress: Whether to show a progress bar.

    Returns:
        ``root`` as a path.

    Raises:
        FileExistsError: if ``root`` holds something this function has not written.
    """
    counts = (num_train, num_val)
    return _write_sample(Path(root), 'coco', counts, stats or SceneStatistics(), seed, progress)


def write_sample_semantic(
    root: str | Path,
    num_train: int = 240,
    num_val: int = 60,
    stats: SceneStatistics | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the same scenes with a label image each: 0 is background, shapes follow in order.

    ``root`` gets ``images/{train,val}/*.jpg`` and ``labels/{train,val}/*.png``. Arguments, result
    and errors are those of :func:`write_sample_coco`.
    """
    counts = (num_train, num_val)
    return _write_sample(Path(root), 'semantic', counts, stats or SceneStatistics(), seed, progress)


def _write_sample(
    root: Path,
    kind: str,
    sizes: tuple[int, int],
    stats: SceneStatistics,
    seed: int,
    progress: bool,
) -> Path:
    counts = dict(zip(_SPLITS, sizes, strict=True))
    stamp = {
        'format': kind,
        'version': SAMPLE_VERSION,
        'seed': seed,
        'images': counts,
        'statistics': json.loads(json.dumps(asdict(stats))),
    }
    files = {
        pattern.format(split=split): count if many else 1
        for split, count in counts.items()
        for pattern, many in _FILES[kind].items()
    }
    if is_written(root, stamp, files):
        return root
    write_split = {'coco': _write_split, 'semantic': _write_semantic_split}[kind]
    with new_folder(root, stamp) as folder:
        bar = progress_bar(sum(counts.values()), 'img', progress)
        for split, count in counts.items():
            write_split(folder, split, count, seed, stats, bar)
        bar.close()
    return root


def _write_split(
    root: Path, split: str, count: int, seed: int, stats: SceneStatistics, bar: Any
) -> None:
    (root / split).mkdir()
    (root / 'annotations').mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene = scene_of(seed, split, index, stats)
        drawn = render(scene)
        image_id = index + 1
        name = f'{index:06d}.jpg'
        height, width = scene.size_hw
        images.append(
            {'id': image_id, 'file_name': name, 'height': height, 'width': width, 'license': 1}
        )
        for annotation in coco_annotations(scene, drawn):
            annotation |= {'id': len(annotations) + 1, 'image_id': image_id}
            annotations.append(annotation)
        write_image(root / split / name, drawn.image)
        bar.update()
    content = {
        'info': {'description': f'isda_suite sample, {split}, seed {seed}', 'version': '1'},
        'licenses': [
            {
                'id': 1,
                'name': 'CC0 1.0',
                'url': 'https://creativecommons.org/publicdomain/zero/1.0/',
            }
        ],
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(stats.classes)
        ],
        'images': images,
        'annotations': annotations,
    }
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def _write_semantic_split(
    root: Path, split: str, count: int, seed: int, stats: SceneStatistics, bar: Any
) -> None:
    for part in ('images', 'labels'):
        (root / part / split).mkdir(parents=True)
    for index in range(count):
        scene = scene_of(seed, split, index, stats)
        drawn = render(scene)
        label = np.zeros(scene.size_hw, np.uint8)
        for item, mask in zip(scene.objects, drawn.masks, strict=True):
            label[mask] = item.label + 1
        write_image(root / 'images' / split / f'{index:06d}.jpg', drawn.image)
        write_image(root / 'labels' / split / f'{index:06d}.png', label)
        bar.update()


def coco_annotations(scene: Scene, drawn: Rendered) -> list[dict[str, Any]]:
    """Return the COCO annotations of a drawn scene, without ids; hidden objects are left out."""
    from pycocotools import mask as coco_mask

    annotations = []
    for item, mask in zip(scene.objects, drawn.masks, strict=True):
        if not mask.any():
            continue
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotations.append(
            {
                'category_id': item.label + 1,
                'iscrowd': 0,
                'area': int(coco_mask.area(rle)),
                'bbox': [float(value) for value in coco_mask.toBbox(rle)],
                'segmentation': {
                    'size': [int(side) for side in rle['size']],
                    'counts': rle['counts'].decode('ascii'),
                },
            }
        )
    return annotations
