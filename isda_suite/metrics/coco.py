"""COCO AP that works without boxes, by COCO's own limits, and never answers with nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.metrics import CocoMetric as MmdetCocoMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger

from isda_suite.registry import METRICS

from .class_table import class_table
from .coco_detections import coco_results, kinds_of, record_of
from .coco_evaluation import (
    Evaluation,
    average_precisions,
    average_recalls,
    backend_in_use,
    evaluate,
    load_ground_truth,
)

Json = dict[str, Any]
_METRICS = ('segm', 'bbox', 'proposal')


@METRICS.register_module()
class CocoMetric(MmdetCocoMetric):
    """Average precision and recall as COCO defines them.

    Different from mmdet's metric: categories are mapped by name; detection limits are COCO's
    (1, 10, 100); ``segm`` needs no boxes; values are not rounded; no detections give 0.0 and no
    ground truth gives nan, each with a warning, instead of an empty or a negative result.

    Keys, for every metric: ``segm_mAP``, ``_50``, ``_75``, ``_s``, ``_m``, ``_l``,
    ``segm_AR@N`` for every limit and ``segm_AR_s@N``, ``_m``, ``_l`` for the largest.

    Args:
        ann_file: COCO json with the ground truth; ``None`` takes the file that the evaluated data
            set names in ``metainfo['ann_file']``.
        metric: ``'segm'``, ``'bbox'``, ``'proposal'`` or a list of them.
        max_dets: Detection limits; ISDA's own evaluation used (100, 300, 1000).
        backend: ``'pycocotools'``, ``'faster'`` (faster-coco-eval, equal numbers), or ``'auto'``:
            the faster one when installed.
        classwise: Whether the results also hold the AP of every class; the table of classes is
            logged anyway.
        iou_thrs: IoU thresholds, ``None`` for 0.50:0.05:0.95.
        format_only: Whether to write the json for an evaluation server and evaluate nothing.
        outfile_prefix: Where to write ``PREFIX.segm.json`` and ``PREFIX.bbox.json``.
        **kwargs: ``collect_device``, ``prefix``, ``backend_args`` of mmdet's metric.

    Raises:
        ValueError: if a metric, a limit or the back-end is unknown, or ``format_only`` is given
            without ``outfile_prefix``.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = 'segm',
        max_dets: Sequence[int] = (1, 10, 100),
        backend: str = 'auto',
        classwise: bool = False,
        iou_thrs: Sequence[float] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in metrics:
            if name not in _METRICS:
                raise ValueError(f'metric must be of {", ".join(_METRICS)}, got {name!r}')
        if format_only and not outfile_prefix:
            raise ValueError('format_only=True needs outfile_prefix: where to write the results')
        if not max_dets or min(max_dets) < 1:
            raise ValueError(f'max_dets must be positive numbers, got {max_dets!r}')
        super().__init__(
            metric=metrics,
            classwise=classwise,
            proposal_nums=tuple(sorted(max_dets)),
            iou_thrs=iou_thrs,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            **kwargs,
        )
        self.ann_file = ann_file
        self.backend = backend_in_use(backend)
        self._content: Json | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Json]) -> None:
        """Store the detections of a batch as COCO results.

        Args:
            data_batch: Not used.
            data_samples: Samples with ``img_id`` and ``pred_instances`` (``scores``, ``labels``,
                and ``masks`` or ``bboxes``, as the metrics need).
        """
        self.results += [record_of(sample) for sample in data_samples]

    def compute_metrics(self, results: list[Json]) -> dict[str, float]:
        """Evaluate all stored detections.

        Returns:
            The values by key, see the class; empty with ``format_only``.

        Raises:
            ValueError: if there is no annotation file, a class is absent from it, or the
                detections lack what a metric needs.
        """
        content = self._load_content()
        self.cat_ids = self._category_ids(content)
        self.img_ids = [record['img_id'] for record in results]
        wanted = {'bbox' if name == 'proposal' else name for name in self.metrics}
        if self.outfile_prefix:
            wanted |= kinds_of(results)
        detections = {kind: coco_results(results, kind, self.cat_ids) for kind in sorted(wanted)}
        if self.outfile_prefix:
            self._write(detections)
        if self.format_only:
            return {}
        values: dict[str, float] = {}
        for name in self.metrics:
            kind = 'bbox' if name == 'proposal' else name
            values |= self._evaluate(name, content, detections[kind])
        return values

    def _load_content(self) -> Json:
        path = self.ann_file or (self.dataset_meta or {}).get('ann_file')
        if path is None:
            raise ValueError(
                'no ground truth: give ann_file to isda_suite.CocoMetric, or evaluate a data set '
                "that names its file in metainfo['ann_file'], as isda_suite.CocoInstanceDataset "
                'does in test mode'
            )
        if self._content is None:
            with get_local_path(path, backend_args=self.backend_args) as local_path:
                self._content = json.loads(Path(local_path).read_bytes())
        return self._content

    def _category_ids(self, content: Json) -> list[int]:
        """Return the category id of every label, matched by name."""
        ids = {one['name']: one['id'] for one in content['categories']}
        classes = self.dataset_meta['classes']
        missing = [name for name in classes if name not in ids]
        if missing:
            raise ValueError(
                f'classes {missing[:5]} are not in the annotation file of the metric, which has '
                f'{list(ids)[:10]}'
            )
        return [ids[name] for name in classes]

    def _write(self, detections: dict[str, list[Json]]) -> None:
        for kind, content in detections.items():
            path = Path(f'{self.outfile_prefix}.{kind}.json')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
            MMLogger.get_current_instance().info(f'results written to {path}')

    def _evaluate(self, name: str, content: Json, detections: list[Json]) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        images, categories = set(self.img_ids), set(self.cat_ids)
        if len(images) < len(content['images']):
            logger.info(f'{len(images)} of {len(content["images"])} annotated images evaluated')
        targets = sum(
            one['image_id'] in images
            and one['category_id'] in categories
            and not one.get('iscrowd')
            for one in content.get('annotations', ())
        )
        if not targets or not detections:
            value = 0.0 if targets else float('nan')
            reason = 'nothing was detected' if targets else 'there is no ground truth'
            logger.warning(
                f'{name}: {reason} in {len(images)} images ({targets} objects annotated, '
                f'{len(detections)} detected): every value is {value}'
            )
            return {f'{name}_{key}': value for key in self._keys(name)}
        evaluation = evaluate(
            load_ground_truth(content, self.backend),
            detections,
            name,
            sorted(images),
            self.cat_ids,
            self.proposal_nums,
            self.iou_thrs,
        )
        values = average_recalls(evaluation)
        if name != 'proposal':
            per_class = self._per_class(evaluation)
            logger.info(f'{name} by class:\n{class_table(per_class)}')
            values = average_precisions(evaluation) | values
            if self.classwise:
                values |= {f'{row}_mAP': column['mAP'] for row, column in per_class.items()}
        return {f'{name}_{key}': value for key, value in values.items()}

    def _keys(self, name: str) -> list[str]:
        limits = tuple(self.proposal_nums)
        nothing = Evaluation(
            np.zeros((1, 0, 0, 4, len(limits))),
            np.zeros((1, 0, 4, len(limits))),
            (),
            limits,
            np.zeros(1),
        )
        precisions = [] if name == 'proposal' else [*average_precisions(nothing)]
        return [*precisions, *average_recalls(nothing)]

    def _per_class(self, evaluation: Evaluation) -> dict[str, dict[str, float]]:
        return {
            name: average_precisions(evaluation, evaluation.category_ids.index(category))
            for name, category in zip(self.dataset_meta['classes'], self.cat_ids, strict=True)
        }
