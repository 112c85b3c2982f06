"""Make of frames what a model of clips is fed: as its test data set does, without a data set."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.inference import pipeline_of
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.datasets.clips import as_clip

from .clips import Clip

Array = NDArray[Any]
_FROM_ARRAY = 'LoadImageFromNDArray'


def clip_length(model: nn.Module) -> int | None:
    """Return how many frames a model takes together; ``None`` for a model of images."""
    found = getattr(model, 'num_frames', None)
    return found if isinstance(found, int) else None


def describe_clip(clip: Clip[Any]) -> dict[str, Any]:
    """Return what the data sample of a clip says of it.

    Args:
        clip: The clip; where its video goes on, the video's length is not known.

    Returns:
        ``clip_frames``, ``clip_start``, ``num_valid``, ``is_last_clip``, and ``video_length``: the
        frames of the video up to the end of the clip.
    """
    return dict(
        clip_frames=clip.numbers,
        clip_start=clip.start,
        num_valid=clip.num_valid,
        is_last_clip=clip.is_last,
        video_length=clip.start + clip.num_valid,
    )


class ClipPipeline:
    """The config's test pipeline for frames that are in memory.

    Annotations are not loaded, and frames not read; everything else stays, so that a clip is what
    the test data set would make of it.

    Args:
        cfg: Config with ``test_dataloader.dataset.pipeline``.

    Raises:
        ConfigError: if there is no pipeline.
    """

    def __init__(self, cfg: Config) -> None:
        steps = _without_files(pipeline_of(cfg))
        with quiet_imports(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            self._steps: list[Callable[..., Any]] = [TRANSFORMS.build(step) for step in steps]

    def __call__(self, clip: Clip[Array], video_id: int) -> dict[str, Any]:
        """Prepare a clip.

        Args:
            clip: Of frames (H, W, 3) uint8 BGR.
            video_id: Goes into the data sample.

        Returns:
            ``inputs`` (T, 3, h, w) and ``data_samples``, a ``TrackDataSample``.
        """
        facts = describe_clip(clip) | dict(video_id=video_id, ori_shape=clip.frames[0].shape[:2])
        frames = [_frame(*pair) for pair in zip(clip.frames, clip.numbers, strict=True)]
        results = as_clip(facts, frames)
        for step in self._steps:
            results = step(results)
        results['data_samples'].set_metainfo(facts)
        return results


def _without_files(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let the first step take an array, and leave out those that load anything else."""
    kept: list[dict[str, Any]] = []
    for step in copy.deepcopy(list(steps)):
        kind = str(step['type']).rpartition('.')[2]
        if 'transforms' in step:
            step['transforms'] = _without_files(step['transforms'])
        elif kind.startswith('LoadImage'):
            to_float = step.get('to_float32', False)
            step = dict(type=f'mmdet.{_FROM_ARRAY}', to_float32=to_float)
        elif kind.startswith('Load'):
            continue
        kept.append(step)
    return kept


def _frame(image: Array, number: int) -> dict[str, Any]:
    """Make the record of a frame without annotations."""
    height, width = image.shape[:2]
    known = dict(img=image, img_path=None, img_id=number, frame_id=number)
    return dict(height=height, width=width, instances=[], **known)
