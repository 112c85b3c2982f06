"""Draw a clip of a video for training, with the same instances in every frame."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from isda_suite.datasets.clips import Record, as_clip, cyclic_window
from isda_suite.registry import TRANSFORMS

MODES = ('per_access', 'once')


@TRANSFORMS.register_module()
class SampleClip(BaseTransform):
    """Take consecutive frames that end at a random one, cyclic, and complete their instances.

    Shorter videos are repeated in whole periods, see
    :func:`~isda_suite.datasets.clips.cyclic_window`. Every frame gets the same instances in the
    same order, that of their ids. Where one is absent, or only a crowd or a region without a mask
    is marked, it has a box of zeros, an empty mask and ``valid`` False; transforms move it like the
    others, as the original does. Tracks that are nothing but crowd or ignored are left out.

    If the sampler names a frame (mmdet's ``TrackImgSampler``), the clip ends there: then an epoch
    has a clip for every frame, as VisTR trains.

    Args:
        num_frames: T, frames of a clip.
        mode: ``'per_access'`` draws another end whenever a video is used; ``'once'`` always uses
            the same one for a video, as the original program does.
        keep_absent: Whether instances stay that are in no frame of the clip, but in others of the
            video, as in the original.
        seed: Seed of the ends of ``'once'``.

    Raises:
        ValueError: for another mode, or a clip without frames.
    """

    def __init__(
        self,
        num_frames: int,
        mode: str = 'per_access',
        keep_absent: bool = False,
        seed: int = 0,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f'SampleClip: num_frames must be at least 1, got {num_frames}')
        if mode not in MODES:
            raise ValueError(f'SampleClip: expected mode {" or ".join(MODES)}, got {mode!r}')
        self.num_frames = num_frames
        self.mode = mode
        self.keep_absent = keep_absent
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn the record of a video into that of a clip.

        Args:
            results: mmdet's record of a video; ``key_frame_id`` names the last frame if it is
                there.

        Returns:
            Lists with an entry a frame, for mmcv's ``TransformBroadcaster``.
        """
        images = results['images']
        numbers = cyclic_window(self._end_frame(results), len(images), self.num_frames)
        seen = images if self.keep_absent else [images[number] for number in numbers]
        tracks = _tracks(seen)
        completed = {number: _completed(images[number], tracks) for number in set(numbers)}
        facts = {
            'clip_frames': numbers,
            'num_valid': min(self.num_frames, len(images)),
            'ori_shape': (images[0]['height'], images[0]['width']),
        }
        return as_clip(results, [completed[number] for number in numbers], **facts)

    def _end_frame(self, results: dict[str, Any]) -> int:
        length = len(results['images'])
        if 'key_frame_id' in results:
            return int(results['key_frame_id'])
        if self.mode == 'once':
            # No state: the same in every worker, every epoch and a run that was resumed.
            address = [self.seed, results['sample_idx']]
            return int(np.random.default_rng(address).integers(length))
        return int(np.random.randint(length))

    def __repr__(self) -> str:
        """Return the arguments, as mmcv's transforms do."""
        return (
            f'{type(self).__name__}(num_frames={self.num_frames}, mode={self.mode!r}, '
            f'keep_absent={self.keep_absent}, seed={self.seed})'
        )


def _tracks(images: list[Record]) -> dict[int, int]:
    """Return the label of every instance that is a target in some frame, by its id."""
    labels = {
        one['instance_id']: one['bbox_label']
        for image in images
        for one in image['instances']
        if not one['ignore_flag']
    }
    return dict(sorted(labels.items()))


def _completed(image: Record, tracks: dict[int, int]) -> Record:
    """Return the record of a frame with one row for every track."""
    targets = {one['instance_id']: one for one in image['instances'] if not one['ignore_flag']}
    height, width = image['height'], image['width']
    rows = []
    for identity, label in tracks.items():
        found = targets.get(identity)
        nothing = {
            'instance_id': identity,
            'bbox_label': label,
            'bbox': [0.0] * 4,
            'ignore_flag': 0,
            'mask': {'size': [height, width], 'counts': [height * width]},
        }
        rows.append({**(found or nothing), 'valid': found is not None})
    return {**image, 'instances': rows}
