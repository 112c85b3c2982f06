"""Videos with tracked instances, read from the YouTube-VIS json as its owners publish it."""

import itertools
import os.path
from collections import defaultdict
from typing import Any, ClassVar

from mmdet.datasets import BaseVideoDataset

from isda_suite.registry import DATASETS

from .annotation_file import Json, usable_id, without_gc
from .bad_images import BadImages
from .checked_file import check_file, read_checked
from .coco_checks import Expectation
from .coco_file import Verdict, class_names, labels_by_name, with_box_and_area
from .report import Report
from .youtube_vis_checks import check_youtube_vis
from .youtube_vis_file import annotation_in_frame, frames_of, judge_frame, read_youtube_vis
from .youtube_vis_names import find_annotation_file, other_names


@DATASETS.register_module()
class YouTubeVISInstanceDataset(BaseVideoDataset):
    """Read a YouTube-VIS json; say at once everything that is wrong with it.

    A sample is a video; the records are those of mmdet's video data sets, so its frame samplers
    and track transforms work. Different from mmdet's ``YouTubeVISDataset``:

    * It reads the file as published (``videos``, ``annotations`` with one list entry a frame);
      mmdet wants it converted.
    * Categories are matched with ``metainfo['classes']`` by name; mmdet takes the json's order, so
      another order there swaps labels silently. Without ``classes`` the json's own names are used,
      ordered by id.
    * An object that is absent from a frame gives no instance there, a mask without a pixel neither.
      What is dropped, ignored or computed is counted and logged once.
    * ``filter_cfg`` leaves out whole videos (``filter_empty_gt``: those without a usable mask,
      ``min_size``: those with a shorter side); mmdet takes the frames without objects out of the
      videos.

    An ``ann_file`` of an official name that is not there is looked for under the names that other
    releases give it (:mod:`isda_suite.datasets.youtube_vis_names`).

    ``instance_id`` is the annotation's id. In test mode ``metainfo['ann_file']`` tells the metric
    where the ground truth is.

    Args:
        allow_outside: Whether ``file_names`` may point out of ``data_root``.
        bad_images: What training does with a video that has a frame which cannot be read:
            ``'stop'``, or ``'skip'`` it, which is counted and stops above 0.1 %. Tests always stop.
        **kwargs: Arguments of mmdet's ``BaseVideoDataset``; the folder of the frames is
            ``data_prefix['img_path']``.

    Raises:
        FileNotFoundError: if the annotation file is missing.
        DataError: if the annotations cannot be used; lists everything that is wrong.
    """

    #: Classes come from the config or the json.
    METAINFO: ClassVar[dict[str, Any]] = {}
    ann_file: str
    #: What ``--eval`` can be, and the metric that answers.
    evaluators: ClassVar[dict[str, dict[str, Any]]] = {
        'segm': {'type': 'isda_suite.YouTubeVISMetric', 'metric': 'segm'}
    }

    def __init__(
        self, *args: Any, allow_outside: bool = False, bad_images: str = 'stop', **kwargs: Any
    ) -> None:
        self.allow_outside = allow_outside
        self.bad_images = BadImages(bad_images, 'videos')
        super().__init__(*args, **kwargs)

    def _join_prefix(self) -> None:
        root, name = str(self.data_root or ''), str(self.ann_file)
        self.ann_file = find_annotation_file(root, name)
        others = other_names(name)
        # Said when the file is read: a model is also built, with the classes of its checkpoint,
        # where the data are not.
        self._missing = ''
        if others and '://' not in root and not os.path.isfile(os.path.join(root, self.ann_file)):
            self._missing = (
                f'no annotation file {os.path.join(root, name)} (seen from {os.getcwd()}), nor, in '
                f'{root or "that folder"}, {", ".join(others)}: check data_root and ann_file'
            )
        super()._join_prefix()

    def _require_file(self) -> None:
        if self._missing:
            raise FileNotFoundError(self._missing)

    def expectation(self) -> Expectation:
        """Return what this data set wants of its annotation file."""
        classes = self._metainfo.get('classes')
        filters = {} if self.test_mode else self.filter_cfg or {}
        return Expectation(
            ann_file=str(self.ann_file),
            classes=tuple(classes) if classes else None,
            root=str(self.data_root or ''),
            img_prefix=str(self.data_prefix.get('img_path', '')),
            allow_outside=self.allow_outside,
            needs_annotations=not self.test_mode,
            filter_empty=bool(filters.get('filter_empty_gt', False)),
            min_size=int(filters.get('min_size', 0)),
        )

    def check(self) -> tuple[Json, Report]:
        """Read the annotation file and check it."""
        self._require_file()
        return check_file(
            self.expectation(), self.backend_args, read_youtube_vis, check_youtube_vis
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotation file; return one record a video."""
        self._require_file()
        content = read_checked(
            self.expectation(), self.backend_args, read_youtube_vis, check_youtube_vis
        )
        categories = content['categories']
        if not self._metainfo.get('classes'):
            self._metainfo['classes'] = class_names(categories)
        if self.test_mode:
            self._metainfo['ann_file'] = str(self.ann_file)
        self.cat2label = labels_by_name(categories, self._metainfo['classes'])
        self.cat_ids = list(self.cat2label)
        tracks = defaultdict(list)
        for track in content.get('annotations') or ():
            if usable_id(track.get('category_id')) in self.cat2label:
                tracks[usable_id(track.get('video_id'))].append(track)
        ids = itertools.count(1)
        with without_gc():
            return [
                {
                    'video_id': video['id'],
                    'video_length': len(video['file_names']),
                    'images': [
                        self._image(frame, next(ids), video, tracks[video['id']])
                        for frame in frames_of([video])
                    ],
                }
                for video in content['videos']
            ]

    def _image(self, frame: Json, img_id: int, video: Json, tracks: list[Json]) -> dict[str, Any]:
        """Return mmdet's record of a frame."""
        instances = (self._instance(track, frame['frame_id'], video) for track in tracks)
        return {
            **frame,
            'img_id': img_id,
            'img_path': os.path.join(self.data_prefix.get('img_path', ''), frame['file_name']),
            'height': video['height'],
            'width': video['width'],
            'instances': [one for one in instances if one is not None],
        }

    def _instance(self, track: Json, frame_id: int, video: Json) -> dict[str, Any] | None:
        """Return mmdet's record of an object in a frame; ``None`` if there is nothing to use."""
        annotation = annotation_in_frame(track, frame_id)
        if annotation is None:
            return None
        height, width = video['height'], video['width']
        verdict, _ = judge_frame(annotation, height, width)
        if verdict is Verdict.DROP:
            return None
        x, y, w, h = with_box_and_area(annotation, height, width)['bbox']
        return {
            'instance_id': track['id'],
            'bbox_label': self.cat2label[track['category_id']],
            'bbox': [x, y, x + w, y + h],
            'ignore_flag': int(verdict is not Verdict.USE),
            'mask': _as_mmdet_mask(annotation['segmentation'], verdict),
        }

    def prepare_data(self, idx: int | tuple[int, int]) -> Any:
        """Run the pipeline on a video, or on a frame of it; None asks for another one.

        Args:
            idx: Index of the video, or of the video and the key frame.
        """
        video = idx[0] if isinstance(idx, tuple) else idx
        load = super().prepare_data
        return self.bad_images.load(lambda _: load(idx), video, len(self), self.test_mode)

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out training videos that are too small or have nothing to learn from."""
        expected = self.expectation()
        return [record for record in self.data_list if _is_kept(record, expected)]


def _as_mmdet_mask(segmentation: Any, verdict: Verdict) -> Any:
    if verdict is Verdict.IGNORE:
        # Two points: no polygon, which mmdet's loader takes as "ignore this instance".
        return [[0.0] * 4]
    if isinstance(segmentation, dict):
        # mmdet takes counts in bytes for a fault.
        return {**segmentation, 'counts': segmentation['counts'].decode('ascii')}
    return segmentation


def _is_kept(record: dict[str, Any], expected: Expectation) -> bool:
    images = record['images']
    if min(images[0]['height'], images[0]['width']) < expected.min_size:
        return False
    targets = (not one['ignore_flag'] for image in images for one in image['instances'])
    return any(targets) or not expected.filter_empty
