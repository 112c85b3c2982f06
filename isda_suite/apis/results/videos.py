"""The result of a video: tracks, each with a mask in some of its frames."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.videos.tracks import plain_code
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.compat.warning_filters import quiet_imports

from .base import Instances, Json, Result, boxes_of
from .formats import category_entries, choose_categories
from .images import InstanceResult
from .stored_images import ImageInMemory
from .stored_videos import StoredVideo

Array = NDArray[Any]
#: Frames of the sheet that stands for a video.
_SHEET_FRAMES = 9


@dataclass(frozen=True)
class Tracks:
    """N tracks in a video of T frames.

    Args:
        labels: (N,) int64.
        scores: (N,) float32, of whole tracks, as YouTube-VIS evaluates them: the mean over all
            frames of the video for DefVisTR, so what is seen briefly has a low one.
        frame_scores: (N, T) float32, in each frame; NaN in frames without it.
        ids: (N,) int64, the number of each in the video.
        masks: For each track T compressed RLEs, ``None`` in a frame without it.
    """

    labels: Array
    scores: Array
    frame_scores: Array
    ids: Array
    masks: list[list[Json | None]]

    def __getitem__(self, kept: Array) -> 'Tracks':
        """Return those that a (N,) bool array keeps, or an array of indices names."""
        masks = [self.masks[place] for place in np.arange(len(self.masks))[kept]]
        return Tracks(
            self.labels[kept], self.scores[kept], self.frame_scores[kept], self.ids[kept], masks
        )

    def reach(self, score_thr: float) -> Array:
        """Tell which tracks have at least a score in some frame, (N,) bool."""
        best = np.nan_to_num(self.frame_scores, nan=-1.0).max(axis=1, initial=-1.0)
        return np.asarray(best >= score_thr)


@dataclass(eq=False, kw_only=True, repr=False)
class VideoResult(Result):
    """Tracks in a video, the best first; for the other arguments see :class:`Result`.

    Args:
        tracks: The tracks.
        num_frames: T, how many frames were predicted.
        fps: Frames per second, ``None`` where nobody knows.
        stored: The video, to be read again when it is drawn.
    """

    tracks: Tracks
    num_frames: int
    fps: float | None
    stored: StoredVideo

    @property
    def labels(self) -> Array:
        """Index of the class of each track, (N,) int64."""
        return self.tracks.labels

    @property
    def scores(self) -> Array:
        """Score of each whole track, (N,) float32, 0..1; see :class:`Tracks`."""
        return self.tracks.scores

    @property
    def masks(self) -> list[list[Json | None]]:
        """For each track T compressed RLEs of the size of the frames, ``None`` where it is not."""
        return self.tracks.masks

    @property
    def boxes(self) -> Array:
        """Box of each track in each frame, (N, T, 4) float32 xyxy; NaN in frames without it."""
        boxes = np.full((len(self), self.num_frames, 4), np.nan, np.float32)
        for track, masks in enumerate(self.masks):
            for number, code in enumerate(masks):
                if code is not None:
                    boxes[track, number] = boxes_of(_decoded(code)[None])[0]
        return boxes

    def above(self, score_thr: float) -> 'VideoResult':
        """Return only the tracks with a score of at least ``score_thr`` (0..1) in some frame."""
        return replace(self, tracks=self.tracks[self.tracks.reach(score_thr)])

    def frame(self, number: int) -> InstanceResult:
        """Return what is in one frame, as the result of an image.

        Its ``instances.extra['track_id']`` tells which track each instance belongs to; scores are
        those in this frame. Drawing it reads the video up to this frame.

        Args:
            number: 0 … T - 1.

        Raises:
            IndexError: if there is no such frame.
        """
        if not 0 <= number < self.num_frames:
            raise IndexError(f'{self.name}: frame {number} of {self.num_frames}')
        here = [index for index, masks in enumerate(self.masks) if masks[number] is not None]
        masks = np.zeros((len(here), *self.image_size), bool)
        for place, index in enumerate(here):
            masks[place] = _decoded(self.masks[index][number])
        found = Instances(
            self.labels[here],
            self.tracks.frame_scores[here, number],
            boxes_of(masks),
            masks,
            {'track_id': self.tracks.ids[here].tolist(), 'frame': [number] * len(here)},
        )
        return InstanceResult(
            name=f'{self.name}_{number:06d}',
            source=self.source,
            image_size=self.image_size,
            classes=self.classes,
            stored=FrameOfVideo(self.stored, number),
            frame=number,
            found=found,
        )

    def draw_frames(self, **style: Any) -> Iterator[Array]:
        """Yield every frame with the tracks in it, (H', W', 3) uint8 RGB.

        Args:
            **style: ``alpha``, ``with_boxes`` and ``with_labels`` of
                :func:`isda_suite.visualization.tubes.draw_tubes`.

        Raises:
            DataError: if the frames cannot be read a second time.
        """
        yield from self._drawn(range(self.num_frames), style)

    def plot(self, **style: Any) -> Array:
        """Draw up to nine frames, spread over the video, on one sheet; see :meth:`Result.plot`.

        Args:
            **style: See :meth:`draw_frames`.
        """
        from isda_suite.visualization.pictures import contact_sheet

        count = min(_SHEET_FRAMES, self.num_frames)
        wanted = np.linspace(0, self.num_frames - 1, count).round().astype(int).tolist()
        return contact_sheet(list(self._drawn(wanted, style)), columns=3)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``NAME_overlay.mp4`` and ``NAME.json``; see :meth:`Result.save`.

        The JSON file is a YouTube-VIS data set of this video, with scores. Of frames that cannot be
        read a second time (those of a generator or a camera) there is no video.
        """
        from isda_suite.apis.videos.writer import open_writer

        facts, video = self._place(folder, '.json'), self._place(folder, '_overlay.mp4')
        with write_atomically(facts, text=True) as file:
            json.dump(self.to_dataset(), file)
        if not self.stored.opens_again:
            return [facts]
        with open_writer(video, self.fps) as writer:
            for picture in self.draw_frames():
                writer.write(picture)
        return [video, facts]

    def to_coco(
        self, image_id: int | str = 1, category_ids: Sequence[int] | None = None
    ) -> list[Json]:
        """Return entries of a YouTube-VIS results file; see :meth:`Result.to_coco`.

        Returns:
            ``video_id``, ``category_id``, ``score`` and ``segmentations`` (an RLE or None for each
            frame) of each track; ready for JSON.
        """
        categories = choose_categories(self.classes, self.labels, category_ids)
        return [
            {
                'video_id': image_id,
                'category_id': int(categories[label]),
                'score': float(score),
                'segmentations': [None if code is None else plain_code(code) for code in masks],
            }
            for label, score, masks in zip(
                self.labels.tolist(), self.scores, self.masks, strict=True
            )
        ]

    def to_geojson(self) -> Json:
        """Return a feature for each track in each frame, in pixels; y points down.

        Properties are ``label``, ``class``, ``score``, ``track_id`` and ``frame``.
        """
        collections = (self.frame(number).to_geojson() for number in range(self.num_frames))
        features = [feature for one in collections for feature in one['features']]
        return {'type': 'FeatureCollection', 'features': features}

    def to_supervision(self) -> Any:
        """Return a list with ``supervision.Detections`` of each frame, tracks in ``tracker_id``.

        Raises:
            ConfigError: if supervision is not installed.
        """
        return [self.frame(number).to_supervision() for number in range(self.num_frames)]

    def _drawn(self, wanted: Sequence[int], style: dict[str, Any]) -> Iterator[Array]:
        with quiet_imports():
            from isda_suite.visualization.tubes import TubeSlice, draw_tubes

        last = max(wanted)
        for number, image in enumerate(self.stored.open_again()):
            if number in wanted:
                rows = zip(
                    self.tracks.ids.tolist(),
                    self.labels.tolist(),
                    self.tracks.frame_scores[:, number].tolist(),
                    [masks[number] for masks in self.masks],
                    strict=True,
                )
                slices = [TubeSlice(*row) for row in rows]
                yield draw_tubes(image[..., ::-1], slices, self.classes, **style)
            if number == last:
                return

    def to_dataset(self) -> Json:
        """Return what was found as a YouTube-VIS data set of this video, with scores."""
        height, width = self.image_size
        categories = choose_categories(self.classes, self.labels, None)
        video = {
            'id': 1,
            'file_names': [f'{self.name}/{number:05d}.jpg' for number in range(self.num_frames)],
            'source': str(self.source),
            'height': height,
            'width': width,
            'length': self.num_frames,
        }
        entries = self.to_coco(1, categories)
        return {
            'videos': [video],
            'categories': category_entries(self.classes, categories),
            'annotations': [
                {'id': number, 'iscrowd': 0, 'track_id': track, **entry}
                for number, (track, entry) in enumerate(
                    zip(self.tracks.ids.tolist(), entries, strict=True), start=1
                )
            ],
        }


@dataclass(frozen=True, eq=False)
class FrameOfVideo:
    """An image that is a frame of a video; see :class:`.stored_images.StoredImage`.

    Args:
        video: The video.
        number: Of the frame.
    """

    video: StoredVideo
    number: int

    def read(self, size_hw: tuple[int, int]) -> Array:
        """Read the video up to the frame; return it, (H, W, 3) uint8 BGR."""
        opened = self.video.open_again()
        for number, image in enumerate(opened):
            if number == self.number:
                return ImageInMemory(image).read(size_hw)
        raise IndexError(f'{opened.name} has no frame {self.number} any more')


def _decoded(code: Any) -> Array:
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.decode(code)).astype(bool)
