"""Whole videos from overlapping clips: the same instance gets the same track."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError

from .postprocess import Rle, ScoreSums, check_score_mode, count_votes, voted_label


@dataclass
class FrameResult:
    """The tracks shown in one frame; final when it is given out.

    Attributes:
        frame: Its number in the video.
        ids: (N,) int64, numbers of the tracks, the same in all frames of the video.
        labels: (N,) int64, the class most frames of the track voted for so far.
        scores: (N,) float32, the score in this frame.
        masks: N run-length codes of the size of the video, none empty.
    """

    frame: int
    ids: Tensor
    labels: Tensor
    scores: Tensor
    masks: list[Rle]


@dataclass
class _Track:
    """What is known of an instance of the video."""

    number: int
    sums: ScoreSums = field(default_factory=ScoreSums)
    votes: Counter[int] = field(default_factory=Counter)
    has_pixels: bool = False
    masks: dict[int, Rle] = field(default_factory=dict)


@dataclass
class _Clip:
    """The last clip: its frames, its instances and the track of each."""

    frames: list[int]
    found: InstanceData
    tracks: list[_Track]


class ClipLinker:
    r"""Link the instances of the clips of one video to tracks.

    Instances of a clip are assigned to tracks of the clip before by the Hungarian method on

    .. math:: \frac{\sum_t |a_t \cap b_t|}{\sum_t |a_t \cup b_t|} + w \, [c_a = c_b]

    with t over the frames both clips have; pairs whose overlap (the fraction) is below ``iou_thr``
    are not linked. What is not linked begins a new track; a track that is not continued ends.

    A frame in two clips takes masks, scores and votes from one of them: from the older unless the
    frame is among its last :math:`\lceil o/2 \rceil`, so from the clip in which it is nearer to
    the middle. This needs no look ahead: all other frames of a clip are final at once. The score
    of a track is that of the frames it covers, its class the vote of those frames. With a single
    clip the tracks are exactly what :func:`.postprocess.clip_tracks` gives.

    Time per clip and memory do not grow with the number of clips: one clip is kept, and of the
    frames before it only the run-length codes the result consists of. A linker is for one video.

    Args:
        overlap: Frames that follow-up clips have in common, >= 0; the last clip of a video may
            overlap more, and all common frames are compared.
        iou_thr: Least overlap of a link, 0..1.
        class_weight: w, what the same class is worth beside an overlap of 1, >= 0.
        score: How frames make the score, as given to :func:`.postprocess.clip_tracks`.
        keep_tracks: Keep what :meth:`finish` joins to tracks. Without, ended tracks are forgotten,
            for streams without an end.

    Raises:
        ModelConfigError: for a negative overlap or weight, a threshold outside 0..1 or an
            unknown score.
    """

    def __init__(
        self,
        overlap: int,
        *,
        iou_thr: float = 0.3,
        class_weight: float = 0.5,
        score: str = 'mean_all',
        keep_tracks: bool = True,
    ) -> None:
        check_score_mode(score)
        if overlap < 0 or class_weight < 0 or not 0 <= iou_thr <= 1:
            raise ModelConfigError(
                f'linking: expected overlap >= 0, class_weight >= 0 and iou_thr in 0..1, got '
                f'{overlap}, {class_weight} and {iou_thr}'
            )
        self.held_back = -(-overlap // 2)
        self.iou_thr = iou_thr
        self.class_weight = class_weight
        self.score = score
        self.keep_tracks = keep_tracks
        self._clip: _Clip | None = None
        self._tracks: list[_Track] = []
        self._num_tracks = 0
        self._num_done = 0  # frames below are final

    def push(self, tracks: InstanceData, frames: Sequence[int]) -> list[FrameResult]:
        """Take the next clip.

        Args:
            tracks: Its instances, from :func:`.postprocess.clip_tracks`.
            frames: The F frame numbers its masks belong to, each one more than the one before,
                beginning after the beginning of the clip before.

        Returns:
            The frames that are final now, in order.

        Raises:
            ModelConfigError: if the frames are not in order or not as many as the masks.
        """
        frames = [int(frame) for frame in frames]
        self._check_frames(tracks, frames)
        clip = _Clip(frames, tracks, self._linked(tracks, frames))
        done = []
        if self._clip is not None:
            done += self._finalise(self._clip, min(self._clip.frames[-1] + 1, frames[0]))
        self._clip = clip
        return done + self._finalise(clip, frames[-1] + 1 - self.held_back)

    def finish(self, num_frames: int | None = None) -> tuple[list[FrameResult], InstanceData]:
        """End the video.

        Args:
            num_frames: Length of the video; ``None`` for the end of the last clip.

        Returns:
            The frames not given out before, and the tracks in the order of their beginning:
            ``scores`` (N,), ``labels`` (N,), ``ids`` (N,) and ``masks``, N lists of ``num_frames``
            run-length codes or ``None``; no tracks without ``keep_tracks``.
        """
        end = 0 if self._clip is None else self._clip.frames[-1] + 1
        done = [] if self._clip is None else self._finalise(self._clip, end)
        self._clip = None
        length = end if num_frames is None else num_frames
        kept = [track for track in self._tracks if track.has_pixels]
        self._tracks = []
        found = InstanceData(
            scores=torch.tensor([t.sums.score(self.score) for t in kept], dtype=torch.float32),
            labels=torch.tensor([voted_label(t.votes) for t in kept], dtype=torch.long),
            ids=torch.tensor([t.number for t in kept], dtype=torch.long),
            masks=[[t.masks.get(frame) for frame in range(length)] for t in kept],
        )
        return done, found

    def _check_frames(self, tracks: InstanceData, frames: list[int]) -> None:
        if not frames or frames != list(range(frames[0], frames[0] + len(frames))):
            raise ModelConfigError(f'clip: expected consecutive frames, got {frames}')
        if tracks.frame_scores.shape[1] != len(frames):
            raise ModelConfigError(
                f'clip: expected instances of {len(frames)} frames, got '
                f'{tracks.frame_scores.shape[1]}'
            )
        before = self._clip.frames if self._clip else [-1]
        if frames[0] <= before[0] or frames[-1] <= before[-1]:
            raise ModelConfigError(
                f'clip: expected frames after {before[0]} to {before[-1]}, got {frames[0]} to '
                f'{frames[-1]}; the clips of a video must come in order, all to one process'
            )

    def _linked(self, found: InstanceData, frames: list[int]) -> list[_Track]:
        """Give every instance of a clip its track."""
        tracks: list[_Track | None] = [None] * len(found)
        if self._clip is not None:
            for old, new in self._links(self._clip, found, frames):
                tracks[new] = self._clip.tracks[old]
        return [track or self._new_track() for track in tracks]

    def _new_track(self) -> _Track:
        track = _Track(self._num_tracks)
        self._num_tracks += 1
        if self.keep_tracks:
            self._tracks.append(track)
        return track

    def _links(self, clip: _Clip, found: InstanceData, frames: list[int]) -> list[tuple[int, int]]:
        """Pair instances of the clip before with those of a new one."""
        common = clip.frames[-1] + 1 - frames[0]
        if common <= 0 or not len(clip.found) or not len(found):
            return []
        overlap = summed_overlap(
            [masks[-common:] for masks in clip.found.masks],
            [masks[:common] for masks in found.masks],
        )
        same = clip.found.labels[:, None] == found.labels[None]
        worth = overlap + self.class_weight * same.numpy()
        allowed = (overlap >= self.iou_thr) & (overlap > 0)
        rows, columns = linear_sum_assignment(np.where(allowed, worth, 0), maximize=True)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return [(old, new) for old, new in pairs if allowed[old, new]]

    def _finalise(self, clip: _Clip, end: int) -> list[FrameResult]:
        """Give out the frames from the first open one up to ``end`` (exclusive) of a clip."""
        start = max(self._num_done, clip.frames[0])
        if end <= start:
            return []
        self._num_done = end
        part = slice(start - clip.frames[0], end - clip.frames[0])
        for n, track in enumerate(clip.tracks):
            self._extend(track, clip.found, n, part, start)
        return [self._frame(clip, frame) for frame in range(start, end)]

    def _extend(self, track: _Track, found: InstanceData, n: int, part: slice, start: int) -> None:
        """Add some frames of instance ``n`` of a clip to its track."""
        masks = found.masks[n][part]
        areas = found.frame_areas[n, part].numpy()
        shown = np.array([mask is not None for mask in masks])
        scores, qualities = (
            found[name][n, part].numpy() for name in ('frame_scores', 'frame_qualities')
        )
        track.sums.add(scores, shown, areas, qualities)
        track.votes.update(count_votes(found.frame_labels[n, part].numpy()))
        track.has_pixels = track.has_pixels or bool(areas.any())
        if self.keep_tracks:
            track.masks.update((start + t, m) for t, m in enumerate(masks) if m is not None)

    def _frame(self, clip: _Clip, frame: int) -> FrameResult:
        t = frame - clip.frames[0]
        shown = [
            n
            for n in range(len(clip.tracks))
            if clip.found.masks[n][t] is not None and clip.found.frame_areas[n, t] > 0
        ]
        tracks = [clip.tracks[n] for n in shown]
        return FrameResult(
            frame=frame,
            ids=torch.tensor([track.number for track in tracks], dtype=torch.long),
            labels=torch.tensor([voted_label(track.votes) for track in tracks], dtype=torch.long),
            scores=clip.found.frame_scores[shown, t].float(),
            masks=[clip.found.masks[n][t] for n in shown],
        )


def summed_overlap(
    first: Sequence[Sequence[Rle | None]], second: Sequence[Sequence[Rle | None]]
) -> NDArray[np.float64]:
    r"""Compute intersections over unions, both summed over frames.

    Args:
        first: N lists of F run-length codes; ``None`` is an empty mask.
        second: M lists of F run-length codes.

    Returns:
        (N, M) in [0, 1]; 0 for two instances without pixels.
    """
    both = np.zeros((len(first), len(second)))
    either = np.zeros_like(both)
    for one, other in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True):
        inter, areas, other_areas = _frame_overlap(one, other)
        both += inter
        either += areas[:, None] + other_areas[None] - inter
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _frame_overlap(
    first: Sequence[Rle | None], second: Sequence[Rle | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count the common pixels of masks in one frame (N, M), and the pixels of each (N,), (M,)."""
    from pycocotools import mask as coco_mask

    places, areas = [], []
    for masks in (first, second):
        at = [n for n, mask in enumerate(masks) if mask is not None]
        area = np.zeros(len(masks))
        if at:
            area[at] = coco_mask.area([masks[n] for n in at])
        places.append([n for n in at if area[n] > 0])
        areas.append(area)
    inter = np.zeros((len(first), len(second)))
    if places[0] and places[1]:
        codes: list[list[Any]] = [
            [masks[n] for n in at] for masks, at in zip((first, second), places, strict=True)
        ]
        # For a crowd the overlap is divided by the area of the first mask alone.
        share = coco_mask.iou(*codes, [1] * len(codes[1]))
        inter[np.ix_(*places)] = np.rint(share * areas[0][places[0]][:, None])
    return inter, areas[0], areas[1]
