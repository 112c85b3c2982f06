"""From the raw outputs of one clip to instances, each with a mask per frame."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of

Rle = dict[str, Any]

SCORES = ('mean_all', 'mean_shown', 'mean_times_mask_quality')
# Float32 values of resized masks that exist at once (4 MB, so that they stay in the cache).
CHUNK_VALUES = 2**20


@dataclass
class ScoreSums:
    """What the score of a track needs to know of its frames; sums of parts add up.

    Attributes:
        frames: Number of frames.
        total: Sum of the frame scores.
        shown: Number of frames that are not null.
        shown_total: Sum of their scores.
        masked: Number of frames with a pixel in the mask.
        quality: Sum of their mask qualities.
    """

    frames: int = 0
    total: float = 0.0
    shown: int = 0
    shown_total: float = 0.0
    masked: int = 0
    quality: float = 0.0

    def add(
        self,
        scores: NDArray[np.float64],
        shown: NDArray[np.bool_],
        areas: NDArray[np.int64],
        qualities: NDArray[np.float64],
    ) -> None:
        """Add some frames, each argument (n,)."""
        self.frames += len(scores)
        self.total += float(scores.sum())
        self.shown += int(shown.sum())
        self.shown_total += float(scores[shown].sum())
        self.masked += int((areas > 0).sum())
        self.quality += float(qualities[areas > 0].sum())

    def score(self, mode: str) -> float:
        """Compute the score of the track.

        Args:
            mode: ``'mean_all'``: mean over all frames, also those written as null (published);
                ``'mean_shown'``: over those not null; ``'mean_times_mask_quality'``: the first
                times the mean quality of the masks.

        Returns:
            In [0, 1]; 0 where there is nothing to average.
        """
        if mode == 'mean_shown':
            return self.shown_total / max(self.shown, 1)
        mean = self.total / max(self.frames, 1)
        return mean if mode == 'mean_all' else mean * self.quality / max(self.masked, 1)


def check_score_mode(mode: str) -> None:
    """Refuse an unknown way to score.

    Raises:
        ModelConfigError: if it is none of ``SCORES``.
    """
    require_one_of('test_cfg.score', mode, SCORES)


def voted_label(votes: dict[int, int]) -> int:
    """Pick the label with most votes, the smallest of several: label to number of frames."""
    return min(votes, key=lambda label: (-votes[label], label))


def encode_mask(mask: NDArray[np.bool_]) -> Rle:
    """Encode (H, W) as compressed COCO run-length code with ``counts`` as text."""
    from pycocotools import mask as coco_mask

    code = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    return {'size': [int(side) for side in code['size']], 'counts': code['counts'].decode('ascii')}


def frame_scores(cls_logits: Tensor, drop_class_zero: bool) -> tuple[Tensor, Tensor]:
    """Compute the best class of every output and its probability.

    Args:
        cls_logits: (K, T, num_classes + 2).
        drop_class_zero: Leave out "not in this frame" beside "no object".

    Returns:
        Scores and labels, both (K, T); labels from 0, and -1 for "not in this frame".
    """
    probabilities = cls_logits.float().softmax(-1)[..., :-1]
    first = 1 if drop_class_zero else 0
    scores, labels = probabilities[..., first:].max(-1)
    return scores, labels + (first - 1)


def _masks_of_instance(
    logits: Tensor, out_shape: tuple[int, int], mask_thr: float, with_quality: bool
) -> tuple[list[Rle], NDArray[np.int64], NDArray[np.float64]]:
    """Encode the masks of one instance, some frames at a time: (T, h4, w4) logits.

    Returns:
        T codes, (T,) numbers of pixels and (T,) mean probabilities of those pixels (0 without
        pixels, or without ``with_quality``).
    """
    thr = math.log(mask_thr / (1 - mask_thr))
    step = max(1, CHUNK_VALUES // max(out_shape[0] * out_shape[1], 1))
    codes: list[Rle] = []
    areas = np.zeros(len(logits), np.int64)
    qualities = np.zeros(len(logits), np.float64)
    for i in range(0, len(logits), step):
        part = logits[i : i + step, None].float()
        resized = F.interpolate(part, out_shape, mode='bilinear', align_corners=False)[:, 0]
        masks = (resized > thr).cpu().numpy()
        areas[i : i + step] = [np.count_nonzero(mask) for mask in masks]
        if with_quality:
            sure = (resized.sigmoid() * (resized > thr)).flatten(1).sum(1).double().cpu().numpy()
            qualities[i : i + step] = sure / np.maximum(areas[i : i + step], 1)
        codes += [encode_mask(mask) for mask in masks]
    return codes, areas, qualities


@torch.no_grad()
def clip_tracks(
    cls_logits: Tensor,
    mask_logits: Tensor,
    num_frames: int,
    out_shape: tuple[int, int],
    *,
    mask_thr: float = 0.5,
    null_score: float = 0.001,
    drop_class_zero: bool = True,
    score: str = 'mean_all',
    img_shape: tuple[int, int] | None = None,
    stride: int = 4,
) -> InstanceData:
    """Decode the instances of one clip, in the order of the slots.

    A slot without any mask pixel in the frames is dropped; there is no score threshold. The class
    is the most frequent one of the frames.

    Args:
        cls_logits: (K, T, num_classes + 2) of the last decoder layer.
        mask_logits: (K, T, h4, w4).
        num_frames: How many leading positions are frames of the video, in 1..T; the rest repeats
            a video shorter than the clip.
        out_shape: (h, w) of the masks wanted, the size of the video.
        mask_thr: A pixel is foreground above this probability, in (0, 1).
        null_score: A frame with a lower score has no mask (``None``).
        drop_class_zero: Do not let "not in this frame" be the class of a frame. Compat: ``False``
            as the original, whose results of that class never count.
        score: How frames make the score, see :meth:`ScoreSums.score`.
        img_shape: (h, w) of the network's input without padding; ``None`` if there is none.
        stride: Input pixels per cell of ``mask_logits``.

    Returns:
        N instances on the CPU: ``scores`` (N,), ``labels`` (N,) from 0 (-1 for "not in this
        frame"), ``masks``, N lists of ``num_frames`` compressed run-length codes or ``None``, and
        what :class:`.linking.ClipLinker` needs: ``frame_scores`` (N, num_frames) float64,
        ``frame_labels``, ``frame_areas`` (pixels, null frames too) and ``frame_qualities``.

    Raises:
        ModelConfigError: for an impossible threshold, score mode or number of frames.
    """
    check_score_mode(score)
    if not 0 < mask_thr < 1:
        raise ModelConfigError(f'test_cfg.mask_thr: expected a value in (0, 1), got {mask_thr}')
    if not 1 <= num_frames <= cls_logits.shape[1]:
        raise ModelConfigError(
            f'num_frames: expected 1 to {cls_logits.shape[1]}, the clip length, got {num_frames}'
        )
    if img_shape is not None:
        h, w = (-(-side // stride) for side in img_shape)
        mask_logits = mask_logits[..., :h, :w]
    best, classes = frame_scores(cls_logits[:, :num_frames], drop_class_zero)
    scores, labels = best.double().cpu().numpy(), classes.cpu().numpy()
    with_quality = score == 'mean_times_mask_quality'
    found: list[dict[str, Any]] = []
    for k, (slot_scores, slot_labels) in enumerate(zip(scores, labels, strict=True)):
        codes, areas, qualities = _masks_of_instance(
            mask_logits[k, :num_frames], out_shape, mask_thr, with_quality
        )
        if not areas.any():
            continue
        shown = slot_scores >= null_score
        found.append(
            dict(
                masks=[code if show else None for code, show in zip(codes, shown, strict=True)],
                frame_scores=slot_scores,
                frame_labels=slot_labels,
                frame_areas=areas,
                frame_qualities=qualities,
                shown=shown,
            )
        )
    return _collected(found, num_frames, score)


def _collected(found: list[dict[str, Any]], num_frames: int, mode: str) -> InstanceData:
    """Join the instances of a clip."""
    scores, labels = [], []
    for one in found:
        sums = ScoreSums()
        sums.add(one['frame_scores'], one['shown'], one['frame_areas'], one['frame_qualities'])
        scores.append(sums.score(mode))
        labels.append(voted_label(count_votes(one['frame_labels'])))
    per_frame = {
        name: torch.as_tensor(np.array([one[name] for one in found]).astype(dtype)).view(
            len(found), num_frames
        )
        for name, dtype in (
            ('frame_scores', np.float64),
            ('frame_labels', np.int64),
            ('frame_areas', np.int64),
            ('frame_qualities', np.float64),
        )
    }
    return InstanceData(
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=[one['masks'] for one in found],
        **per_frame,
    )


def count_votes(labels: NDArray[np.int64]) -> dict[int, int]:
    """Count the frames of every label: (n,) labels."""
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
