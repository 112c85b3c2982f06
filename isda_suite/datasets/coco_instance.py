"""Instances in COCO format, with categories mapped by name."""

from collections import defaultdict
from typing import Any, ClassVar

from mmdet.datasets import CocoDataset

from isda_suite.registry import DATASETS

from .annotation_file import Json, usable_id, without_gc
from .bad_images import BadImages
from .checked_file import check_file, read_checked
from .coco_checks import Expectation, check_coco
from .coco_entries import read_entries
from .coco_file import (
    Verdict,
    class_names,
    judge,
    labels_by_name,
    read_coco,
    with_box_and_area,
)
from .report import Report


@DATASETS.register_module()
class CocoInstanceDataset(CocoDataset):
    """Read a COCO json; say at once everything that is wrong with it.

    Different from mmdet's reader:

    * Categories are matched with ``metainfo['classes']`` by name; mmdet takes the json's order, so
      another order there swaps labels silently. Without ``classes`` the json's own names are used,
      ordered by id.
    * A missing box or area is computed from the mask. An annotation without a mask is an ignored
      region. What is dropped, ignored or computed is counted and logged once.
    * With ``filter_empty_gt`` an image is kept when it has at least one usable instance; a crowd
      region alone does not keep it.

    In test mode ``metainfo['ann_file']`` tells the metric where the ground truth is.

    Args:
        allow_outside: Whether ``file_name`` may point out of ``data_root``.
        bad_images: What training does with an image that cannot be read: ``'stop'``, or
            ``'skip'`` it, which is counted and stops above 0.1 %. Tests always stop.
        **kwargs: Arguments of mmdet's ``CocoDataset``.

    Raises:
        FileNotFoundError: if the annotation file is missing.
        DataError: if the annotations cannot be used; lists everything that is wrong.
    """

    #: Classes come from the config or the json, not from COCO.
    METAINFO: ClassVar[dict[str, Any]] = {}
    #: What ``--eval`` can be, and the metric that answers.
    evaluators: ClassVar[dict[str, dict[str, Any]]] = {
        'segm': {'type': 'isda_suite.CocoMetric', 'metric': 'segm'},
        'bbox': {'type': 'isda_suite.CocoMetric', 'metric': 'bbox'},
    }

    def __init__(
        self, *args: Any, allow_outside: bool = False, bad_images: str = 'stop', **kwargs: Any
    ) -> None:
        self.allow_outside = allow_outside
        self.bad_images = BadImages(bad_images)
        super().__init__(*args, **kwargs)

    def expectation(self) -> Expectation:
        """Return what this data set wants of its annotation file."""
        classes = self._metainfo.get('classes')
        filters = self.filter_cfg or {}
        return Expectation(
            ann_file=str(self.ann_file),
            classes=tuple(classes) if classes else None,
            root=str(self.data_root or ''),
            img_prefix=str(self.data_prefix.get('img', '')),
            allow_outside=self.allow_outside,
            needs_annotations=not self.test_mode,
            filter_empty=bool(filters.get('filter_empty_gt', False)) and not self.test_mode,
            min_size=0 if self.test_mode else int(filters.get('min_size', 0)),
        )

    def check(self) -> tuple[Json, Report]:
        """Read the annotation file and check it.

        Returns:
            The content of the file, of every annotation only what the check keeps, and the report.
        """
        return check_file(self.expectation(), self.backend_args, self._read_entries, check_coco)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotation file; return one record an image."""
        content = read_checked(self.expectation(), self.backend_args, self._read, check_coco)
        categories = content['categories']
        if not self._metainfo.get('classes'):
            self._metainfo['classes'] = class_names(categories)
        if self.test_mode:
            self._metainfo['ann_file'] = str(self.ann_file)
        self.cat2label = labels_by_name(categories, self._metainfo['classes'])
        self.cat_ids = list(self.cat2label)
        by_image = defaultdict(list)
        # Taken out of the content and of the dictionary: records replace what they were made of.
        for annotation in content.pop('annotations', ()):
            by_image[usable_id(annotation.get('image_id'))].append(annotation)
        with without_gc():
            return [
                self.parse_data_info(
                    {
                        'raw_img_info': {**image, 'img_id': image['id']},
                        'raw_ann_info': self._usable(by_image.pop(image['id'], []), image),
                    }
                )
                for image in content['images']
            ]

    def _read(self, path: str) -> Json:
        return read_coco(path)

    def _read_entries(self, path: str) -> Json:
        return read_entries(path)

    def _usable(self, annotations: list[Json], image: Json) -> list[Json]:
        """Return what stays of an image's annotations, in the form mmdet's parser expects."""
        kept = []
        height, width = image['height'], image['width']
        for annotation in annotations:
            if usable_id(annotation.get('category_id')) not in self.cat2label:
                continue
            verdict, _ = judge(annotation, height, width)
            if verdict is Verdict.DROP:
                continue
            annotation = with_box_and_area(annotation, height, width)
            if verdict is Verdict.IGNORE:
                # Two points: no polygon, which mmdet's loader takes as "ignore this instance".
                annotation = {**annotation, 'iscrowd': 1, 'segmentation': [[0.0] * 4]}
            kept.append(annotation)
        return kept

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on an image; None asks for another one."""
        return self.bad_images.load(super().prepare_data, idx, len(self), self.test_mode)

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out training images that are too small or have nothing to learn from."""
        if self.test_mode or self.filter_cfg is None:
            return self.data_list
        min_size = self.filter_cfg.get('min_size', 0)
        filter_empty = self.filter_cfg.get('filter_empty_gt', False)
        return [
            info
            for info in self.data_list
            if min(info['width'], info['height']) >= min_size
            and not (filter_empty and all(one['ignore_flag'] for one in info['instances']))
        ]
