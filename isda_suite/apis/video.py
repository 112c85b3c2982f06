"""Predict videos of any length: frames come in one by one, and go out with the tracks in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.videos.clip_pipeline import ClipPipeline, clip_length
from isda_suite.apis.videos.clips import Clip, check_clips, cut_clips
from isda_suite.apis.videos.source import Source, Video, open_video
from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError

from .model import load_model

Array = NDArray[Any]
__all__ = [
    'VideoFrame',
    'VideoPrediction',
    'load_model',
    'open_video',
    'predict_video',
]


@dataclass(frozen=True)
class VideoFrame:
    """A frame and the tracks in it.

    Attributes:
        number: Of the frames that were taken, from 0.
        image: (H, W, 3) uint8 BGR.
        ids: Numbers of the tracks; a track keeps its number as long as the video lasts.
        labels: Class indices, the class that most frames of the track had so far.
        scores: 0..1, in this frame.
        masks: COCO RLE of the size of the frame, none empty.
    """

    number: int
    image: Array
    ids: list[int]
    labels: list[int]
    scores: list[float]
    masks: list[dict[str, Any]]


class VideoPrediction:
    """The frames of a video with their tracks, computed while they are asked for, once.

    A frame is given out when no later clip can change it. Of the video no more is held than two
    clips; of the tracks, the run-length codes of :attr:`tracks`, unless they are not kept.

    Args:
        model: A model of clips from :func:`.model.load_model`.
        video: The video.
        clip_len: See :func:`predict_video`.
        overlap: See there.
        keep_tracks: Whether :attr:`tracks` is wanted in the end.
        progress: Show a bar of the frames.

    Attributes:
        video: The video.
        num_frames: How many frames have been given out.
        tracks: After the last frame ``scores``, ``labels``, ``ids`` and ``masks`` of the tracks:
            for each a list with one run-length code or ``None`` a frame. ``None`` before.

    Raises:
        ConfigError: if the model takes no clips, or none of these lengths.
    """

    def __init__(
        self,
        model: nn.Module,
        video: Video,
        clip_len: int | None = None,
        overlap: int | None = None,
        keep_tracks: bool = True,
        progress: bool = True,
    ) -> None:
        self.video = video
        self.num_frames = 0
        self.tracks: Any = None
        self._model: Any = model
        self._clip_len, self._overlap = choose_clips(model, clip_len, overlap)
        self._pipeline = ClipPipeline(self._model.cfg)
        self._keep_tracks = keep_tracks
        self._progress = progress
        self._images: dict[int, Array] = {}
        self._begun = False

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in order.

        Raises:
            DataError: if a frame cannot be read.
            RuntimeError: the second time.
        """
        from tqdm import tqdm

        if self._begun:
            raise RuntimeError('a prediction gives its frames once: call predict_video again')
        self._begun = True
        linker = self._model.clip_linker(self._overlap, keep_tracks=self._keep_tracks)
        with tqdm(total=self.video.num_frames, unit='frame', disable=not self._progress) as bar:
            for clip in cut_clips(self.video, self._clip_len, self._overlap):
                for found in self._finished(clip, linker):
                    self.num_frames += 1
                    bar.update()
                    yield _plain(found, self._images.pop(found.frame))
                del clip  # while the next frames are read, these need not be held

    def _finished(self, clip: Clip[Array], linker: Any) -> list[Any]:
        """Predict a clip and link it; return what is known of the frames that are final now."""
        done: list[Any] = linker.push(self._predict(clip), clip.numbers[: clip.num_valid])
        if clip.is_last:
            rest, self.tracks = linker.finish()
            done += rest
        return done

    def _predict(self, clip: Clip[Array]) -> Any:
        """Return the instances of a clip, and keep its frames until they are given out."""
        pairs = zip(clip.numbers, clip.frames[: clip.num_valid], strict=False)
        self._images |= {number: frame for number, frame in pairs if number >= self.num_frames}
        data = self._model.data_preprocessor(pseudo_collate([self._pipeline(clip, 1)]), False)
        with torch.no_grad():
            [found] = self._model.predict_clips(**data)
        return found

    def results(self, video_id: int = 1, category_ids: Sequence[int] | None = None) -> list[Any]:
        """Return the tracks as entries for :func:`.videos.results_file.write_results`.

        Args:
            video_id: Their video.
            category_ids: Category of each class; ``None`` counts from 1, as YouTube-VIS does.

        Returns:
            ``video_id``, ``score``, ``category_id`` and ``segmentations`` of each track.

        Raises:
            RuntimeError: before the last frame, or if tracks are not kept.
        """
        if self.tracks is None or not self._keep_tracks:
            raise RuntimeError('tracks are known after the last frame, if keep_tracks is set')
        found = self.tracks
        rows = zip(found.scores.tolist(), found.labels.tolist(), found.masks, strict=True)
        return [
            dict(
                video_id=video_id,
                score=score,
                category_id=_category(label, category_ids),
                segmentations=masks,
            )
            for score, label, masks in rows
        ]


def predict_video(
    model: nn.Module,
    source: Source | Video,
    clip_len: int | None = None,
    overlap: int | None = None,
    every: int = 1,
    max_frames: int | None = None,
    keep_tracks: bool = True,
    progress: bool = True,
) -> VideoPrediction:
    """Predict a video of any length.

    It is cut into overlapping clips, whose instances are linked to tracks where they overlap. A
    video that fits into one clip gives what the clip alone gives, and any video what
    ``tools/test.py`` gives for its frames.

    Args:
        model: A model of clips from :func:`.model.load_model`.
        source: What :func:`.videos.source.open_video` takes, or what it gives.
        clip_len: Frames of a clip; ``None``, or what the model takes.
        overlap: Frames that clips share; ``None`` takes that of the config's test data, or half a
            clip where it says none.
        every: Take every n-th frame; only of a source that is not open yet, like the next one.
        max_frames: End after this many frames.
        keep_tracks: Whether whole tracks are wanted in the end. Without them memory does not grow
            at all, with them by the run-length codes.
        progress: Show a bar of the frames.

    Returns:
        To be iterated once; see there.

    Raises:
        ConfigError: if the model takes no clips, or none of these lengths.
        DataError: if the source is no video.
    """
    video = source if isinstance(source, Video) else open_video(source, every, max_frames)
    return VideoPrediction(model, video, clip_len, overlap, keep_tracks, progress)


def choose_clips(model: nn.Module, clip_len: int | None, overlap: int | None) -> tuple[int, int]:
    """Return length and overlap of the clips for a model.

    Raises:
        ConfigError: if the model takes no clips, or none of these lengths.
    """
    found = clip_length(model)
    if found is None or not hasattr(model, 'clip_linker'):
        raise ConfigError(
            f'{type(model).__name__} predicts no videos: take a configuration of a video method; '
            'demo/image_demo.py predicts frames one by one'
        )
    if clip_len not in (None, found):
        raise ConfigError(
            f'clip_len {clip_len}: the model takes {found} frames a clip, num_frames of its '
            'configuration and part of its weights: leave clip_len out, or change num_frames and '
            'convert the checkpoint'
        )
    if overlap is None:
        cfg: Any = model.cfg
        dataset = innermost_dataset((cfg.get('test_dataloader') or {}).get('dataset') or {})
        overlap = dataset.get('overlap', found // 2)
    check_clips(found, overlap)
    return found, overlap


def _plain(found: Any, image: Array) -> VideoFrame:
    return VideoFrame(
        int(found.frame),
        image,
        found.ids.tolist(),
        found.labels.tolist(),
        found.scores.tolist(),
        list(found.masks),
    )


def _category(label: int, category_ids: Sequence[int] | None) -> int:
    """Return the category of a label; that of -1, "in no frame", is 0."""
    return label + 1 if category_ids is None or label < 0 else category_ids[label]
