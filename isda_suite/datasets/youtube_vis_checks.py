"""Find everything wrong in a YouTube-VIS annotation file, without opening an image."""

from collections import Counter
from typing import Any

from .annotation_file import Json, is_size, usable_id
from .coco_checks import MAX_ORPHAN_SHARE, Expectation, leaves_root
from .coco_file import Verdict, category_problems
from .report import Report
from .youtube_vis_file import PER_FRAME, annotation_in_frame, frames_of, judge_frame

_VIDEO_KEYS = {'id': int | str, 'file_names': list, 'length': int}
# mmdet keeps the ids of tracks as 32-bit numbers.
_MAX_TRACK_ID = 2**31 - 1


def check_youtube_vis(content: Json, expected: Expectation) -> Report:
    """Check a YouTube-VIS annotation file.

    Args:
        content: The file, as
            :func:`~isda_suite.datasets.youtube_vis_file.read_youtube_vis` gives it.
        expected: What the data set wants of it; its filters leave out whole videos.

    Returns:
        A report; it is fatal when training on the file would go wrong.
    """
    report = Report(expected.ann_file)
    videos, tracks = content['videos'], content.get('annotations')
    report.facts = {
        'videos': len(videos),
        'frames': sum(1 for _ in frames_of(videos)),
        'annotations (tracks)': len(tracks or ()),
        'categories': len(content['categories']),
    }
    for problem in category_problems(content['categories'], expected.classes):
        report.add('classes do not fit', problem, fatal=True)
    sound = _check_videos(videos, report)
    _check_places(videos, expected, report)
    if isinstance(tracks, list):
        _check_track_ids(tracks, report)
        usable = _Tracks(content, sound, expected, report).check()
    else:
        usable = Counter()
        if expected.needs_annotations:
            report.add('the file has no list "annotations"', fatal=True)
    if not report.fatal:
        _check_left(sound, usable, expected, report)
    return report


def _check_videos(videos: list[Json], report: Report) -> dict[Any, Json]:
    """Return the videos that have all they need, by id."""
    sound: dict[Any, Json] = {}
    first_frames: dict[Any, str] = {}
    for index, video in enumerate(videos):
        identity, names = _id_of(video), video.get('file_names')
        shown = str(names[0]) if isinstance(names, list) and names else 'no frame'
        title, detail = _video_problem(video)
        if title:
            place = f'videos[{index}], video id {identity}, {shown}'
            report.add(title, f'{place}{detail}', fatal=True)
        else:
            sound[identity] = video
        if identity in first_frames:
            report.add(
                'videos with the same id',
                f'video id {identity}: {first_frames[identity]} and {shown}',
                fatal=True,
            )
        if identity is not None:
            first_frames[identity] = shown
    return sound


def _id_of(video: Json) -> int | str | None:
    identity = usable_id(video.get('id'))
    return None if isinstance(identity, float) else identity


def _video_problem(video: Json) -> tuple[str, str]:
    """Return the title and detail of what is wrong with a video; empty if nothing is."""
    missing = [key for key, kind in _VIDEO_KEYS.items() if not isinstance(video.get(key), kind)]
    missing += [key for key in ('height', 'width') if not is_size(video.get(key))]
    if missing:
        return f'video without {", ".join(missing)}', ''
    names, length = video['file_names'], video['length']
    if not names:
        return 'video without frames: file_names is empty', ''
    if len(names) != length:
        title = 'video whose file_names are not as many as its length'
        return title, f': {len(names)} file_names, length {length}'
    return '', ''


def _check_places(videos: list[Json], expected: Expectation, report: Report) -> None:
    for frame in frames_of(videos):
        place = f'video id {frame["video_id"]}, frame {frame["frame_id"]}: {frame["file_name"]}'
        if not isinstance(frame['file_name'], str):
            report.add('file name that is no text', place, fatal=True)
        elif not expected.allow_outside and leaves_root(
            frame['file_name'], expected.img_prefix, expected.root
        ):
            report.add(
                f'file name points out of {expected.root or expected.img_prefix} '
                '(dataset option allow_outside=True permits it)',
                place,
                fatal=True,
            )


def _check_track_ids(tracks: list[Json], report: Report) -> None:
    counts: Counter[int] = Counter()
    for index, track in enumerate(tracks):
        identity = track.get('id')
        place = f'annotations[{index}], video id {track.get("video_id")}'
        if identity is None:
            report.add('annotation without id', place, fatal=True)
        elif not isinstance(identity, int) or not 0 <= identity <= _MAX_TRACK_ID:
            report.add(
                f'annotation id that is no whole number from 0 to {_MAX_TRACK_ID}',
                f'{place}: annotation id {identity!r}',
                fatal=True,
            )
        else:
            counts[identity] += 1
    for identity, count in counts.items():
        if count > 1:
            report.add(
                'annotations with the same id',
                f'annotation id {identity} stands {count} times',
                fatal=True,
            )


class _Tracks:
    """Go through the tracks of a file.

    Args:
        content: The file.
        sound: Videos that have all they need, by id.
        expected: What the data set wants.
        report: Takes what is found.
    """

    def __init__(
        self, content: Json, sound: dict[Any, Json], expected: Expectation, report: Report
    ) -> None:
        self.tracks: list[Json] = content['annotations']
        self.video_ids = {_id_of(video) for video in content['videos']} - {None}
        self.videos = sound
        self.names = {
            usable_id(one.get('id')): str(one.get('name')) for one in content['categories']
        }
        self.classes = set(expected.classes or self.names.values())
        self.report = report
        self.unused: Counter[str] = Counter()

    def check(self) -> Counter[Any]:
        """Return the number of usable tracks by video id."""
        usable: Counter[Any] = Counter()
        orphans = masks = 0
        for track in self.tracks:
            if self._is_orphan(track):
                orphans += 1
                continue
            used = self._usable_frames(track)
            masks += used
            usable[track['video_id']] += used > 0
        if self.unused:
            self.report.add(
                'annotation of a category that the config does not name: left out',
                ', '.join(sorted(self.unused)[:20]),
                count=self.unused.total(),
            )
        if orphans > MAX_ORPHAN_SHARE * len(self.tracks):
            self.report.add(
                'more than 1 % of the annotations belong to no video or category of the file',
                f'{orphans} of {len(self.tracks)}',
                fatal=True,
                count=orphans,
            )
        self.report.facts['usable tracks'] = usable.total()
        self.report.facts['usable masks'] = masks
        return usable

    def _is_orphan(self, track: Json) -> bool:
        absent = usable_id(track.get('video_id')) not in self.video_ids
        category = usable_id(track.get('category_id'))
        if absent or category is None or category not in self.names:
            what = 'absent video' if absent else 'unknown category'
            self.report.add(
                f'annotation of an {what}: dropped', f'{_place(track)}, category id {category}'
            )
            return True
        return False

    def _usable_frames(self, track: Json) -> int:
        """Count what is odd about a track; return in how many frames it is a target."""
        name = self.names[track['category_id']]
        if name not in self.classes:
            self.unused[name] += 1
            return 0
        video = self.videos.get(track['video_id'])
        if video is None or not self._lists_fit(track, video):
            return 0
        present = used = 0
        for frame_id in range(len(video['file_names'])):
            annotation = annotation_in_frame(track, frame_id)
            if annotation is not None:
                present += 1
                used += self._count_frame(annotation, track, video, frame_id)
        if not present:
            self.report.add('annotation that is null in every frame: dropped', _place(track))
        return used

    def _lists_fit(self, track: Json, video: Json) -> bool:
        fit = True
        for key in PER_FRAME:
            values = track.get(key)
            if values is None:
                continue  # every entry is missing; those of boxes and areas are computed
            found = len(values) if isinstance(values, list) else 'no list'
            if found != len(video['file_names']):
                fit = False
                self.report.add(
                    f'annotation whose {key} are not as many as the frames of its video',
                    f'{_place(track, video)}: {found}, the video has {len(video["file_names"])}',
                    fatal=True,
                )
        return fit

    def _count_frame(self, annotation: Json, track: Json, video: Json, frame_id: int) -> bool:
        """Count what is odd about one frame; return whether there is a target in it."""
        verdict, reason = judge_frame(annotation, video['height'], video['width'])
        add = self.report.add
        if verdict is Verdict.WRONG:
            place = _place(track, video, frame_id)
            add(f'mask or box that {verdict.value}', f'{place}: {reason}', fatal=True)
        elif verdict is Verdict.CROWD:
            add(verdict.value, _place(track, video, frame_id))
        elif verdict is not Verdict.USE:
            add(f'{reason}: {verdict.value}', _place(track, video, frame_id))
        if verdict not in (Verdict.DROP, Verdict.WRONG):
            for key in ('bbox', 'area'):
                if annotation[key] is None:
                    place = _place(track, video, frame_id)
                    add(f'frame without {key}: computed from its mask', place)
        return verdict is Verdict.USE


def _place(track: Json, video: Json | None = None, frame_id: int | None = None) -> str:
    place = f'video id {track.get("video_id")}, annotation id {track.get("id")}'
    if video is not None:
        place = f'{video["file_names"][frame_id or 0]}, {place}'
    return place if frame_id is None else f'{place}, frame {frame_id}'


def _check_left(
    videos: dict[Any, Json], usable: Counter[Any], expected: Expectation, report: Report
) -> None:
    """Refuse a file of which every video is left out, and say by what."""
    empty = [key for key in videos if not usable[key]] if expected.filter_empty else []
    small = [
        key
        for key, video in videos.items()
        if min(video['height'], video['width']) < expected.min_size
    ]
    left = len(videos) - len({*empty, *small})
    report.facts['videos used'] = left
    if not left:
        report.add(
            f'0 of {len(videos)} videos left: {len(empty)} without a usable annotation, '
            f'{len(small)} with a side under {expected.min_size} px '
            f'(filter_cfg of the data set); frames looked for in {expected.img_prefix}',
            fatal=True,
            count=len(videos),
        )
