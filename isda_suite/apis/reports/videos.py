"""What a report keeps of tested videos, and the sections it makes of them."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isda_suite.apis.videos.tracks import merged_videos, video_record
from isda_suite.datasets.youtube_vis_file import read_youtube_vis
from isda_suite.metrics.detection_matching import (
    BACKGROUND_IOU,
    Judged,
    best_of_each_class,
    judge_detections,
)
from isda_suite.metrics.youtube_vis_tracks import (
    Track,
    annotated_track,
    found_track,
    sequence_ious,
)

from .parts import Extremes, Section, analysis_of, detection_sections, pictures_section

Array = NDArray[Any]
Json = dict[str, Any]
_MAX_DETECTIONS = 100
_SHOWN_FRAMES = 4
_MEANING = (
    'By panoptic quality of whole tracks: the IoUs over space and time of what is right, over what '
    'is right and half of what is wrong or missed, of tracks from score {:g} on. Annotations are '
    'above, predictions below.'
)


class Tracks(NamedTuple):
    """Tracks of a video, found or annotated."""

    labels: Array
    tracks: list[Track]


class ShownVideo(NamedTuple):
    """What is needed to draw a video: its frames by number, and its tracks."""

    name: str
    frames: dict[int, str]
    size_hw: tuple[int, int]
    found: Tracks
    annotated: Tracks


class VideoCollector:
    """Keep the tracks of videos and where their frames are.

    Args:
        ann_file: Annotation file in the form of YouTube-VIS.
        classes: Names of the classes.
        num_shown: How many of the best videos to draw, and of the worst.
        score_thr: Tracks from here on are shown and count as confusions.
    """

    def __init__(
        self, ann_file: str | Path, classes: Sequence[str], num_shown: int, score_thr: float
    ) -> None:
        self.ann_file = ann_file
        self.classes = list(classes)
        self.num_shown = num_shown
        self.score_thr = score_thr
        self._records: list[Json] = []
        self._open: set[Any] = set()
        self._frames: dict[Any, dict[int, str]] = defaultdict(dict)

    def add(self, clip: Any, record: Any = None) -> None:
        """Keep a tested clip; its video's tracks come with the last one.

        Args:
            clip: A ``TrackDataSample``.
            record: Not used.
        """
        frames = self._frames[clip.video_id]
        numbers = clip.metainfo.get('clip_frames')
        if numbers is not None:
            for number, frame in zip(numbers[: clip.num_valid], clip, strict=False):
                if frame.metainfo.get('img_path'):
                    frames[int(number)] = str(frame.img_path)
        found = video_record(clip.to_dict())
        if found is None:
            self._open.add(clip.video_id)
        else:
            self._open.discard(clip.video_id)
            self._records.append(found)

    def payload(self) -> Any:
        """Return what the other ranks need."""
        return (self._records, self._open), dict(self._frames)

    def judged_of(self, payloads: Sequence[Any]) -> list[tuple[Judged, ShownVideo]]:
        """Judge the videos of all ranks, each once.

        Returns:
            Of each video what was judged, and what is needed to draw it.
        """
        records = merged_videos([part for part, _ in payloads])
        frames: dict[Any, dict[int, str]] = {}
        for _, some in payloads:
            for video, places in some.items():
                frames.setdefault(video, {}).update(places)
        content = read_youtube_vis(self.ann_file)
        labels = {
            one['id']: self.classes.index(one['name'])
            for one in content['categories']
            if one['name'] in self.classes
        }
        sizes = {one['id']: (one['height'], one['width']) for one in content['videos']}
        annotated = annotated_videos(content, labels)
        pairs = []
        for record in records:
            video = record['video_id']
            found, wanted = _found(record, sizes[video]), annotated.get(video, _EMPTY)
            places = frames.get(video, {})
            shown = ShownVideo(_name_of(video, places), places, sizes[video], found, wanted)
            judged = judge_video(found, wanted, len(self.classes), self.score_thr)
            pairs.append((judged, shown))
        return pairs

    def sections(self, payloads: Sequence[Any]) -> list[Section]:
        """Make the sections of all ranks' videos."""
        pairs = self.judged_of(payloads)
        judged = [one for one, _ in pairs]
        extremes = Extremes[ShownVideo](self.num_shown)
        for one, shown in pairs:
            extremes.offer(one.quality, len(one.matches.gt_labels), partial(_same, shown))
        analysis = analysis_of(judged, len(self.classes))
        return [
            *detection_sections(judged, analysis, self.classes, self.score_thr, 'videos'),
            *pictures_section(extremes, self._draw, _MEANING.format(self.score_thr), 'videos'),
        ]

    def _draw(self, item: ShownVideo) -> Array:
        return draw_video_pair(item, self.classes, self.score_thr)


_EMPTY = Tracks(np.zeros(0, np.int64), [])


def annotated_videos(content: Json, labels: dict[Any, int]) -> dict[Any, Tracks]:
    """Return the annotated tracks of each video.

    Args:
        content: As :func:`~isda_suite.datasets.youtube_vis_file.read_youtube_vis` gives it.
        labels: Label of each category; others are left out.
    """
    sizes = {one['id']: (one['height'], one['width']) for one in content['videos']}
    found: dict[Any, tuple[list[int], list[Track]]] = defaultdict(lambda: ([], []))
    for one in content.get('annotations') or ():
        if one['category_id'] in labels and one['video_id'] in sizes:
            of_video = found[one['video_id']]
            of_video[0].append(labels[one['category_id']])
            of_video[1].append(annotated_track(one, *sizes[one['video_id']]))
    return {video: Tracks(np.array(of[0], np.int64), of[1]) for video, of in found.items()}


def _found(record: Json, size_hw: tuple[int, int]) -> Tracks:
    # Label -1 stands for category 0, which never counts.
    tracks = [one for one in record['tracks'] if one['label'] >= 0]
    labels = np.array([one['label'] for one in tracks], np.int64)
    return Tracks(labels, [found_track(one, *size_hw) for one in tracks])


def judge_video(found: Tracks, annotated: Tracks, num_classes: int, score_thr: float) -> Judged:
    """Judge the tracks of a video."""
    scores = np.array([one.score for one in found.tracks], dtype=float)
    places = best_of_each_class(scores, found.labels, _MAX_DETECTIONS)
    tracks = [found.tracks[place] for place in places]
    return judge_detections(
        sequence_ious(tracks, annotated.tracks, at_least=BACKGROUND_IOU),
        scores[places],
        found.labels[places],
        annotated.labels,
        np.array([one.crowd for one in annotated.tracks], dtype=bool),
        num_classes,
        score_thr,
    )


def draw_video_pair(item: ShownVideo, classes: Sequence[str], score_thr: float) -> Array:
    """Draw some frames with the annotated tracks above the predicted ones.

    Raises:
        ValueError: if the frames are not known.
    """
    from isda_suite.datasets.image_file import read_as_predicted
    from isda_suite.visualization.pictures import contact_sheet
    from isda_suite.visualization.tubes import TubeSlice, draw_tubes

    numbers = sorted(item.frames)
    if not numbers:
        raise ValueError('the places of its frames are not known')
    spread = np.linspace(0, len(numbers) - 1, min(_SHOWN_FRAMES, len(numbers))).round().astype(int)
    rows: list[list[Array]] = [[], []]
    for number in (numbers[place] for place in spread):
        image = read_as_predicted(item.frames[number], item.size_hw)[..., ::-1]
        for row, tracks, scored in zip(
            rows, (item.annotated, item.found), (False, True), strict=True
        ):
            slices = [
                TubeSlice(place, int(label), track.score if scored else None, track.masks[number])
                for place, (label, track) in enumerate(
                    zip(tracks.labels.tolist(), tracks.tracks, strict=True)
                )
                if number < len(track.masks)
            ]
            row.append(draw_tubes(image, slices, classes, score_thr))
    return contact_sheet([*rows[0], *rows[1]], columns=len(rows[0]), cell_width=420)


def _same(shown: ShownVideo) -> ShownVideo:
    return shown


def _name_of(video: Any, frames: dict[int, str]) -> str:
    folder = Path(frames[min(frames)]).parent.name if frames else ''
    return f'video {video} {folder}'.strip()
