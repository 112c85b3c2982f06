"""Write a small synthetic video data set in YouTube-VIS format, the same bytes for the same seed.

The objects of :mod:`isda_suite.datasets.scene`, now moving and turning: they hide each other, leave
the picture and come into it. Every video is drawn from its own random stream, addressed by (seed,
split, index). Lengths alternate, so that half of the videos are shorter and half are longer than
the clips of ``configs/_base_/datasets/sample_video.py``.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .sample_folder import is_written, new_folder, progress_bar, write_image
from .scene import Array, Scene, SceneStatistics
from .scene_rendering import random_scene, render

#: Raise when the same arguments give other bytes than before.
SAMPLE_VIDEO_VERSION = 1
#: Frames of the videos with even and with odd numbers.
LENGTHS = (6, 14)
VIDEO_STATISTICS = SceneStatistics(
    classes=('disk', 'box', 'star', 'triangle'),
    short_side=96,
    long_sides=(128,),
    upright_share=0.0,
    num_objects=(2, 4),
    diameter=(18.0, 44.0),
    num_clutter=(2, 5),
    speed=10.0,
    spin=0.15,
)
_SPLITS = ('train', 'valid')
_STREAM = 1
#: An object of which less is seen counts as absent.
_MIN_VISIBLE_PIXELS = 12


def video_of(
    seed: int, split: str, index: int, stats: SceneStatistics | None = None
) -> tuple[Scene, int]:
    """Return a video as a scene, and its length; frame t shows the scene at time t.

    Args:
        seed: Seed of all randomness.
        split: ``'train'`` or ``'valid'``.
        index: Number of the video.
        stats: What the scenes look like; ``None`` means :data:`VIDEO_STATISTICS`.
    """
    rng = np.random.default_rng([seed, _SPLITS.index(split), index, _STREAM])
    scene = random_scene(rng, stats or VIDEO_STATISTICS)
    length = LENGTHS[index % len(LENGTHS)]
    # Drawn so that all objects can be seen; that becomes a random frame of the video.
    start = -float(rng.integers(length))
    objects = tuple(
        replace(item, center_xy=item.center_at(start), angle=item.angle_at(start))
        for item in scene.objects
    )
    return replace(scene, objects=objects), length


def write_sample_videos(
    root: str | Path,
    num_train: int = 24,
    num_val: int = 8,
    stats: SceneStatistics | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the videos.

    ``root`` gets ``train.json``, ``valid.json`` and ``{train,valid}/JPEGImages/VIDEO/*.jpg``. It is
    written to a folder beside and renamed, so it is either whole or absent; when it is there
    already with the same arguments nothing is done.

    Args:
        root: Folder to make.
        num_train: Number of training videos.
        num_val: Number of validation videos.
        stats: What the scenes look like; ``None`` means :data:`VIDEO_STATISTICS`.
        seed: Seed of all randomness.
        progress: Whether to show a progress bar.

    Returns:
        ``root`` as a path.

    Raises:
        FileExistsError: if ``root`` holds something that no generator of samples has written.
    """
    root, stats = Path(root), stats or VIDEO_STATISTICS
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    stamp = {
        'format': 'youtube_vis',
        'version': SAMPLE_VIDEO_VERSION,
        'seed': seed,
        'videos': counts,
        'lengths': list(LENGTHS),
        'statistics': json.loads(json.dumps(asdict(stats))),
    }
    files = {f'{split}.json': 1 for split in counts}
    for split, count in counts.items():
        frames = sum(LENGTHS[index % len(LENGTHS)] for index in range(count))
        files[f'{split}/JPEGImages/*/*.jpg'] = frames
    if is_written(root, stamp, files):
        return root
    with new_folder(root, stamp) as folder:
        bar = progress_bar(sum(counts.values()), 'video', progress)
        for split, count in counts.items():
            _write_split(folder, split, count, seed, stats, bar)
        bar.close()
    return root


def _write_split(
    root: Path, split: str, count: int, seed: int, stats: SceneStatistics, bar: Any
) -> None:
    videos: list[dict[str, Any]] = []
    tracks: list[dict[str, Any]] = []
    for index in range(count):
        scene, length = video_of(seed, split, index, stats)
        names = [f'{index:06d}/{frame:05d}.jpg' for frame in range(length)]
        masks = []
        for time, name in enumerate(names):
            drawn = render(scene, float(time))
            path = root / split / 'JPEGImages' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, drawn.image)
            masks.append(drawn.masks)
        height, width = scene.size_hw
        size = {'height': height, 'width': width, 'length': length}
        videos.append({'id': index + 1, **size, 'file_names': names})
        for item, seen in zip(scene.objects, np.stack(masks, axis=1), strict=True):
            facts = {'video_id': index + 1, 'category_id': item.label + 1, 'iscrowd': 0}
            tracks.append({'id': len(tracks) + 1, **facts, **_track(seen)})
        bar.update()
    content = {
        'info': {'description': f'isda_suite sample of videos, {split}, seed {seed}'},
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(stats.classes)
        ],
        'videos': videos,
        'annotations': tracks,
    }
    (root / f'{split}.json').write_text(json.dumps(content))


def _track(masks: Array) -> dict[str, list[Any]]:
    """Return the lists of a track, with an entry a frame, from its (T, H, W) masks."""
    from pycocotools import mask as coco_mask

    lists: dict[str, list[Any]] = {'segmentations': [], 'bboxes': [], 'areas': []}
    for mask in masks:
        present = int(mask.sum()) >= _MIN_VISIBLE_PIXELS
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        text = {'size': list(mask.shape), 'counts': rle['counts'].decode('ascii')}
        box = [float(value) for value in coco_mask.toBbox(rle)]
        lists['segmentations'].append(text if present else None)
        lists['bboxes'].append(box if present else None)
        lists['areas'].append(int(mask.sum()) if present else None)
    return lists
